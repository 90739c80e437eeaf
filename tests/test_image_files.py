"""Images in files: memory-mapped copies, streaming, Tiny ImageNet and STL-10 in their own layouts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import generator, make_folder
from PIL import Image

from neurossl.errors import OptionError, StimulusError, StorageError
from neurossl.events import Fixation, Teaching
from neurossl.stimuli import FixationSequence, StreamedImages, ViewPairs, Views, WakeSleep, load_images
from neurossl.stimuli.datasets.decoding import Decoding, read_picture
from neurossl.stimuli.datasets.workers import Workers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", {"cat": (12, 12), "dog": (12, 12), "emu": (12, 12)}, per_class=7)


def everything_below(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


def test_a_memory_mapped_copy_is_the_same_and_made_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything_below(folder)
    resident = load_images(f"folder:{folder}")
    mapped = load_images(f"folder:{folder}", cache=tmp_path / "cache")
    assert torch.equal(mapped.train, resident.train)
    assert torch.equal(mapped.test, resident.test)
    assert (mapped.mean, mapped.std, mapped.classes) == (resident.mean, resident.std, resident.classes)
    assert any(str(tmp_path / "cache") in note for note in mapped.notes), "it is said where the copy is"
    assert everything_below(folder) == before
    (copy,) = (tmp_path / "cache").iterdir()
    assert sorted(f.name for f in copy.iterdir()) == ["images.json", "test.npy", "train.npy", "unlabelled.npy"]
    # Any reader of .npy reads it, without un-pickling; and it is not loaded, but mapped.
    assert np.array_equal(np.load(copy / "train.npy", allow_pickle=False), resident.train.numpy())
    assert str(copy / "train.npy") in Path("/proc/self/maps").read_text()

    def refused(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("neurossl.stimuli.datasets.cache.read_pictures", refused)
    again = load_images(f"folder:{folder}", cache=tmp_path / "cache")
    assert torch.equal(again.train, resident.train)
    # What is written to a mapped image is seen by nobody else.
    again.train[0] = 0
    assert torch.equal(mapped.train, resident.train)
    monkeypatch.undo()
    load_images(f"folder:{folder}", cache=tmp_path / "cache", size=6)
    os.utime(folder / "train" / "cat" / "0.png", (0, 0))
    load_images(f"folder:{folder}", cache=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3, "other sizes and other files have copies of their own"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: flip(c / "train.npy"), r"train\.npy: the bytes differ from their checksum: delete"),
        (lambda c: os.truncate(c / "test.npy", 100), r"test\.npy: the bytes differ"),
        (lambda c: (c / "test.npy").unlink(), r"test\.npy: cannot be read"),
        (lambda c: (c / "images.json").write_text("{"), r"images\.json: not the index of a copy of images: delete"),
        (lambda c: (c / "images.json").unlink(), r"images\.json: not the index"),
        (
            lambda c: (c / "images.json").write_text((c / "images.json").read_text().replace("[\n    21,", "[\n    20,")),
            r"train\.npy: expected \(21, 3, 12, 12\) in the index: delete",
        ),
    ],
    ids=["bit", "short", "gone", "index", "no index", "shape"],
)
def test_a_damaged_copy_is_named(folder: Path, tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    load_images(f"folder:{folder}", cache=tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    index = copy / "images.json"
    index.write_text(json.dumps(json.loads(index.read_text()), indent=1))
    damage(copy)
    with pytest.raises(StimulusError, match=message):
        load_images(f"folder:{folder}", cache=tmp_path / "cache")


def test_a_copy_is_complete_or_absent(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    broken = folder / "train" / "dog" / "2.bmp"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    with pytest.raises(StimulusError, match=r"dog/2\.bmp: cannot be read"):
        load_images(f"folder:{folder}", size=12, cache=cache)
    assert list(cache.iterdir()) == []
    broken.write_bytes(whole)
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))  # type: ignore[attr-defined]
    with pytest.raises(StorageError, match=r"a copy of the images needs 0\.0 GB, 0\.0 GB are free"):
        load_images(f"folder:{folder}", cache=cache)
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: the copy of the images cannot be written"):
        load_images(f"folder:{folder}", cache=tmp_path / "file")
    # What a killed process left behind goes; what a running one is making stays.
    load_images(f"folder:{folder}", cache=cache)
    (copy,) = cache.iterdir()
    shutil.rmtree(copy)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = "".join(c if c.isalnum() else "." for c in socket.gethostname())
    begin = f".{copy.name}.unfinished"
    left, running = (cache / f"{begin}-{host}-{process}-a1" for process in (ended.pid, os.getppid()))
    elsewhere = cache / f"{begin}-another.machine-{ended.pid}-a1"
    for unfinished in (left, running, elsewhere):
        unfinished.mkdir()
    load_images(f"folder:{folder}", cache=cache)
    assert sorted(cache.iterdir()) == sorted([copy, running, elsewhere])


def test_images_larger_than_memory_are_refused_with_a_remedy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurossl.stimuli.datasets.access.free_memory", lambda: 20000)
    with pytest.raises(StimulusError, match=rf"with cache, or stream:{folder}$"):
        load_images(f"folder:{folder}")


def test_streamed_images_are_those_of_the_folder(folder: Path) -> None:
    resident, streamed = load_images(f"folder:{folder}", size=8), load_images(f"stream:{folder}", size=8)
    assert isinstance(streamed.train, StreamedImages)
    assert streamed.shape == resident.shape == (3, 8, 8)
    assert torch.equal(streamed.train_labels, resident.train_labels)
    assert streamed.mean == pytest.approx(resident.mean, abs=1e-6)
    index = torch.tensor([20, 3, 3, 7])
    assert torch.equal(streamed.train[index], resident.train[index])
    few = streamed.limited(6, 3, generator())
    assert torch.equal(few.train, resident.limited(6, 3, generator()).train)
    grey = load_images(f"stream:{folder}", size=8, grayscale=True)
    assert grey.shape == (1, 8, 8)
    assert "21 files" in repr(streamed.train)
    views = Views(8, crop_scale=(0.3, 1.0), flip=0.5)
    for stream in (ViewPairs, FixationSequence):
        one = stream(resident.train, resident.train_labels, views, observers=5, moments=9, seed=3)
        other = stream(streamed.train, streamed.train_labels, views, observers=5, moments=9, seed=3)
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a.require(Fixation, "t").stimulus, b.require(Fixation, "t").stimulus)
            assert torch.equal(a.require(Teaching, "t").labels, b.require(Teaching, "t").labels)
    for first in range(9):
        streamed.train.expect(torch.arange(first, first + 4))
    assert len(streamed.train._expected) == 3, "what is decoded ahead is bounded"
    with pytest.raises(StimulusError, match="streamed images need a size, such as size=12"):
        load_images(f"stream:{folder}")


def test_an_epoch_streams_every_image_once_in_an_order_of_its_own(folder: Path) -> None:
    resident, images = load_images(f"folder:{folder}"), load_images(f"stream:{folder}", size=12).train
    assert isinstance(images, StreamedImages)

    def order(epoch: int, seed: int) -> list[int]:
        shown = []
        for index, pixels in images.epoch(epoch, rows=4, seed=seed):
            assert torch.equal(pixels, resident.train[index])
            shown += index.tolist()
        return shown

    assert sorted(order(0, 1)) == list(range(21))
    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1) != order(0, 2)


def test_a_file_that_breaks_in_the_middle_is_named(folder: Path) -> None:
    images = load_images(f"stream:{folder}", size=12).train
    assert isinstance(images, StreamedImages)
    (folder / "train" / "dog" / "3.png").write_bytes(b"\x89PNG but no more")
    with pytest.raises(StimulusError, match=r"train/dog/3\.png: cannot be read"):
        list(images.epoch(0, rows=5))
    assert len(images[torch.tensor([9, 11])]) == 2, "the others can be read"
    (folder / "train" / "dog" / "4.jpg").unlink()
    with pytest.raises(StimulusError, match=r"dog/4\.jpg: cannot be read"):
        images[torch.tensor([11])]


def test_streaming_goes_on_in_a_process_that_forks(folder: Path) -> None:
    images = load_images(f"stream:{folder}", size=12).train
    index = torch.arange(6)
    expected = images[index]
    images.expect(torch.arange(3))  # type: ignore[operator]
    process = os.fork()
    if process == 0:
        signal.alarm(20)
        os._exit(0 if torch.equal(images[torch.arange(3)], expected[:3]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_ctrl_c_ends_a_program_that_streams(folder: Path) -> None:
    program = f"""
import time, torch
import neurossl.stimuli.datasets.streamed as streamed
from neurossl.stimuli import load_images
images = load_images("stream:{folder}", size=12).train
streamed.read_pictures = lambda *_: time.sleep(60)
print("ready", flush=True)
images[torch.arange(20)]
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert errors.strip().endswith("KeyboardInterrupt")


def test_workers_hand_back_results_and_reasons() -> None:
    workers = Workers(2)
    assert [workers.submit(pow, n, 2).result(10) for n in range(9)] == [n * n for n in range(9)]
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result(10)


def test_large_photographs_are_decoded_at_a_fraction(tmp_path: Path) -> None:
    """A JPEG four times too large differs little from the same picture decoded at full size."""
    axis = np.linspace(0, 3, 512)
    ramp = np.stack([np.sin(axis[:, None] + axis), np.cos(2 * axis[:, None] * axis), np.sin(axis[:, None]) + 0 * axis], 2)
    picture = Image.fromarray((127 + 120 * ramp).astype(np.uint8))
    picture.save(tmp_path / "a.jpg", quality=95)
    picture.save(tmp_path / "a.png")
    one, other = (read_picture(tmp_path / f"a.{kind}", Decoding(100, 100)).astype(int) for kind in ("jpg", "png"))
    assert one.shape == (3, 100, 100)
    assert np.abs(one - other).mean() < 2


def make_tiny_imagenet(path: Path) -> Path:
    """Make three classes in the layout in which the set is distributed."""
    rng = np.random.default_rng(0)
    classes = ["n01443537", "n01629819", "n02056570"]
    lines = []
    for place, name in enumerate(classes):
        (path / "train" / name / "images").mkdir(parents=True)
        (path / "train" / name / f"{name}_boxes.txt").write_text("0 0 63 63")
        (path / "val" / "images").mkdir(parents=True, exist_ok=True)
        for number in range(2):
            picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
            picture.save(path / "train" / name / "images" / f"{name}_{number}.JPEG")
            picture.rotate(90).save(path / "val" / "images" / f"val_{3 * number + place}.JPEG")
            lines.append(f"val_{3 * number + place}.JPEG\t{name}\t0\t32\t44\t62")
    (path / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")
    (path / "wnids.txt").write_text("\n".join(reversed(classes)) + "\n")
    (path / "test" / "images").mkdir(parents=True)
    return path


def test_tiny_imagenet_as_published_and_in_class_folders(tmp_path: Path) -> None:
    published = make_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    images = load_images("tiny_imagenet", data_dir=tmp_path)
    assert images.shape == (3, 64, 64)
    assert images.classes == ("n01443537", "n01629819", "n02056570")
    assert images.train_labels.tolist() == images.test_labels.tolist() == [0, 0, 1, 1, 2, 2]
    with Image.open(published / "val" / "images" / "val_4.JPEG") as second_of_middle:
        assert np.array_equal(images.test[3].permute(1, 2, 0).numpy(), np.asarray(second_of_middle))
    assert images.notes == ()
    # The reduced copies that are passed around have class folders in both parts.
    reduced = tmp_path / "reduced"
    for part, pixels, labels in (("train", images.train, images.train_labels), ("val", images.test, images.test_labels)):
        for number, (picture, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            target = reduced / part / images.classes[label] / f"{number}.PNG"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((32, 32)).save(target)
    small = load_images("tiny_imagenet", data_dir=reduced)
    assert small.shape == (3, 32, 32)
    assert torch.equal(small.test_labels, images.test_labels)
    assert load_images("tiny_imagenet", data_dir=tmp_path, size=32, cache=tmp_path / "cache").shape == (3, 32, 32)
    with pytest.raises(StimulusError, match=r"'tiny_imagenet': not found or damaged in .*nowhere.* --data-dir$"):
        load_images("tiny_imagenet", data_dir=tmp_path / "nowhere")
    (published / "val" / "images" / "val_4.JPEG").unlink()
    with pytest.raises(StimulusError, match=r"there is no .*val_4\.JPEG that val_annotations\.txt names"):
        load_images("tiny_imagenet", data_dir=tmp_path)
    (published / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01443537\nval_1.JPEG n01629819\n")
    with pytest.raises(StimulusError, match=r"val_annotations\.txt, line 2: expected a file and one of the 3 classes"):
        load_images("tiny_imagenet", data_dir=tmp_path)


def test_stl10_in_binary_files_with_and_without_unlabelled_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = {part: rng.integers(0, 256, (count, 3, 96, 96), np.uint8) for part, count in (("train", 5), ("test", 4))}
    for part, content in pixels.items():
        content.transpose(0, 1, 3, 2).tofile(folder / f"{part}_X.bin")
        (np.arange(len(content), dtype=np.uint8) % 10 + 1).tofile(folder / f"{part}_y.bin")
    images = load_images("stl10", data_dir=tmp_path)
    assert np.array_equal(images.train.numpy(), pixels["train"]), "the files are column after column"
    assert images.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert images.classes[8] == "ship"
    assert images.unlabelled is None
    without = rng.integers(0, 256, (7, 3, 96, 96), np.uint8)
    without.transpose(0, 1, 3, 2).tofile(folder / "unlabeled_X.bin")
    images = load_images("stl10", data_dir=tmp_path)
    assert images.unlabelled is not None
    assert np.array_equal(images.unlabelled.numpy(), without)
    assert "7 unlabelled" in repr(images)
    assert str(folder / "unlabeled_X.bin") in Path("/proc/self/maps").read_text(), "they stay in their file"
    moment = ViewPairs(images.unlabelled, None, Views(96, flip=0.5), observers=3, moments=2)[1]
    assert moment.get(Teaching) is None
    assert moment.require(Fixation, "t").stimulus.shape == (6, 3, 96, 96)
    assert load_images("stl10", data_dir=tmp_path, size=32).unlabelled.shape == (7, 3, 32, 32)  # type: ignore[union-attr]
    with pytest.raises(StimulusError, match="wrong labels need at least 2 classes, got no labels"):
        WakeSleep(images.unlabelled, None, Views(96), 10, observers=3)
    (folder / "test_y.bin").write_bytes(b"\x01\x02\x0b\x01")
    with pytest.raises(StimulusError, match=r"test_y\.bin is not one label from 1 to 10 per image"):
        load_images("stl10", data_dir=tmp_path)
    os.truncate(folder / "train_X.bin", 27649)
    with pytest.raises(StimulusError, match=r"train_X\.bin has 27649 bytes, expected a multiple of 27648"):
        load_images("stl10", data_dir=tmp_path)


def test_unlabelled_pictures_in_folders_belong_to_the_set(folder: Path, tmp_path: Path) -> None:
    (folder / "unlabeled" / "any").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(np.full((12, 12, 3), 60 * number, np.uint8)).save(folder / "unlabeled" / "any" / f"{number}.png")
    for given in ({}, {"cache": tmp_path / "cache"}):
        images = load_images("stl10", data_dir=folder, **given)  # type: ignore[arg-type]
        assert images.name == "stl10"
        assert images.unlabelled is not None
        assert images.unlabelled[:, 0, 0, 0].tolist() == [0, 60, 120, 180]
        far = images.to("meta")
        assert (far.train.device.type, far.unlabelled.device.type) == ("meta", "meta")  # type: ignore[union-attr]
        assert far.train_labels.device.type == "cpu"
    stream = ViewPairs(images.train, images.train_labels, Views(12), observers=4, moments=1, device="meta")
    assert stream[0].require(Fixation, "t").stimulus.device.type == "meta"
    with pytest.raises(OptionError, match="observers: expected a whole number"):
        ViewPairs(images.train, None, Views(12), observers=0)
