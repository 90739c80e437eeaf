"""Folders of pictures that hold more than pictures: hidden files, links, pipes; folders without a split; their identity."""

import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_folder
from PIL import Image

from neurossl.errors import StimulusError
from neurossl.events import Fixation
from neurossl.stimuli import StreamedImages, ViewPairs, Views, load_images

TWO = {"cat": (8, 8), "dog": (8, 8)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "images", TWO, per_class=4)


def loaded(path: Path) -> tuple[list[int], list[int], tuple[str, ...]]:
    """Return the labels of both parts, and the notes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = load_images(f"folder:{path}")
    return images.train_labels.tolist(), images.test_labels.tolist(), images.notes


def refused(path: Path, scheme: str = "folder") -> str:
    with pytest.raises(StimulusError) as caught:
        load_images(f"{scheme}:{path}", size=8)
    message = str(caught.value)
    assert message.isprintable(), "one line of text"
    return message


EIGHT = [0] * 4 + [1] * 4


def test_links_to_folders_within_a_class_are_not_followed(folder: Path) -> None:
    """Two loops, each of which would find the images of both classes over and over again, and a link to elsewhere."""
    for name in ("cat", "dog"):
        (folder / "train" / name / "up").symlink_to(folder / "train", target_is_directory=True)
        (folder / "train" / name / "here").symlink_to(".", target_is_directory=True)
    (folder / "train" / "cat" / "more").symlink_to(folder / "test" / "dog", target_is_directory=True)
    assert loaded(folder) == (EIGHT, EIGHT, ("left out: 5 links to folders or to nothing",))


def test_links_that_lead_nowhere_are_left_out(folder: Path) -> None:
    (folder / "train" / "cat" / "nothing.png").symlink_to("nowhere.png")
    (folder / "train" / "cat" / "itself.png").symlink_to("itself.png")
    assert loaded(folder) == (EIGHT, EIGHT, ("left out: 2 links to folders or to nothing",))


def test_links_to_files_and_whole_classes_stand_for_them(folder: Path, tmp_path: Path) -> None:
    subset = tmp_path / "subset"
    for part in ("train", "test"):
        (subset / part / "kitten").mkdir(parents=True)
        for file in (folder / part / "cat").iterdir():
            (subset / part / "kitten" / file.name).symlink_to(file)
        (subset / part / "dog").symlink_to(folder / part / "dog", target_is_directory=True)
    whole, linked = load_images(f"folder:{folder}"), load_images(f"folder:{subset}")
    assert torch.equal(linked.train[linked.train_labels == 0], whole.train[whole.train_labels == 1])
    assert torch.equal(linked.train[linked.train_labels == 1], whole.train[whole.train_labels == 0])


def test_a_class_that_is_a_link_to_other_classes_is_refused(folder: Path) -> None:
    link = folder / "train" / "emu"
    link.symlink_to(".", target_is_directory=True)
    assert "class 'emu' is a link to a folder that holds all classes" in refused(folder)
    link.unlink()
    link.symlink_to("cat", target_is_directory=True)
    assert "classes 'cat' and 'emu' are one folder, by a link" in refused(folder)
    link.unlink()
    (folder / "train" / "cat" / "small").mkdir()
    link.symlink_to("cat/small", target_is_directory=True)
    assert "class 'emu' is a link into class 'cat'" in refused(folder)


def test_a_class_within_another_class_is_refused(folder: Path) -> None:
    """As a copy into the wrong place leaves it: its images would be learned as the outer class."""
    (folder / "train" / "cat" / "dog").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "train" / "cat" / "dog" / "0.png")
    assert "cat/dog: a folder of class 'dog' within class 'cat': move or rename it" in refused(folder)


def test_hidden_files_and_folders_are_left_out_and_counted(folder: Path) -> None:
    hidden = folder / "train" / "cat" / ".thumbnails"
    hidden.mkdir()
    for target in (hidden / "0.png", folder / "train" / "dog" / "._0.png"):
        Image.new("RGB", (8, 8)).save(target)
    (folder / "test" / ".git").mkdir()
    assert loaded(folder) == (EIGHT, EIGHT, ("left out: 3 hidden files or folders",))


def test_images_outside_of_class_folders_are_counted(folder: Path) -> None:
    Image.new("RGB", (8, 8)).save(folder / "train" / "lost.png")
    assert loaded(folder)[2] == ("left out: 1 images outside of class folders",)


def test_pipes_and_devices_with_the_name_of_a_picture_are_left_out(folder: Path) -> None:
    os.mkfifo(folder / "train" / "cat" / "x.png")
    assert loaded(folder) == (EIGHT, EIGHT, ("left out: 1 pipes, devices or sockets",))
    (folder / "test" / "cat" / "y.png").symlink_to("/dev/zero")
    assert loaded(folder)[2] == ("left out: 1 links to folders or to nothing, 1 pipes, devices or sockets",)


def test_a_pipe_that_takes_the_place_of_a_picture_is_refused_without_waiting(folder: Path) -> None:
    images = load_images(f"stream:{folder}", size=8)
    (folder / "train" / "cat" / "0.png").unlink()
    os.mkfifo(folder / "train" / "cat" / "0.png")
    with pytest.raises(StimulusError, match=r"cat/0\.png: cannot be read \(not a regular file\)"):
        images.train[0]


def test_a_folder_without_a_split_is_split_by_a_seed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("cat", 20), ("dog", 10), ("emu", 2)):
        (tmp_path / "whole" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "whole" / name / f"{number}.png")
    images = load_images(tmp_path / "whole")
    assert torch.bincount(images.train_labels).tolist() == [16, 8, 1]
    assert torch.bincount(images.test_labels).tolist() == [4, 2, 1]
    assert "20% of every class, drawn at random with seed 0" in images.source
    pictures = {part.numpy().tobytes() for part in (*images.train, *images.test)}
    assert len(pictures) == 32, "every image is in one part"
    again = load_images(tmp_path / "whole")
    assert torch.equal(again.test, images.test)
    numbers = [int(file.stem) for file in load_images(f"stream:{tmp_path / 'whole'}", size=8).test.files]  # type: ignore[attr-defined]
    assert numbers[:4] != [16, 17, 18, 19], "at random"
    (tmp_path / "whole" / "emu" / "1.png").unlink()
    assert f"{tmp_path / 'whole' / 'emu'}: one image, expected at least 2" in refused(tmp_path / "whole")


def test_a_class_of_trains_is_no_training_set(tmp_path: Path) -> None:
    for name in ("bus", "train"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{number}.png")
    assert load_images(tmp_path).classes == ("bus", "train")


def test_a_training_set_alone_is_split_when_it_is_given_itself(folder: Path) -> None:
    for file in (folder / "test").rglob("*.*"):
        file.unlink()
    for part in ("cat", "dog", ""):
        (folder / "test" / part).rmdir()
    assert f"to have some of its images tested with, give {folder / 'train'}" in refused(folder)
    assert len(load_images(folder / "train").test) == 2
    (folder / "train").rename(folder / "test")
    assert "there is no folder 'train' in it" in refused(folder), "a test set alone is no class"


@pytest.mark.parametrize("scheme", ["folder", "stream"])
def test_unlabelled_images_alone_make_a_set(tmp_path: Path, scheme: str) -> None:
    for path in (tmp_path / "alone", tmp_path / "beside" / "unlabeled"):
        path.mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (8, 8), (50 * number,) * 3).save(path / f"{number}.png")
    for path in (tmp_path / "alone", tmp_path / "beside"):
        images = load_images(f"{scheme}:{path}", size=8)
        assert images.classes == ()
        assert (len(images.train), len(images.test)) == (0, 0)
        assert images.shape == (3, 8, 8)
        assert images.unlabelled is not None
        assert images.unlabelled[:][:, 0, 0, 0].tolist() == [0, 50, 100, 150, 200]
        assert images.mean[0] == pytest.approx(100 / 255, abs=1e-5)
        with pytest.raises(StimulusError, match="there are no images with labels, which a subset"):
            images.limited(1, 1, torch.Generator())


def test_the_size_may_have_a_height_and_a_width(folder: Path) -> None:
    """The centre of the picture is shown, enlarged until it covers the size."""
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None] * 30, (8, 8, 3))
    for part in ("train", "test"):
        Image.fromarray(ramp.copy()).save(folder / part / "cat" / "0.png")
    images = load_images(folder, size=(4, 8))
    assert images.train.shape == (8, 3, 4, 8)
    assert images.train[0, 0, :, 0].tolist() == [60, 90, 120, 150]
    streamed = load_images(f"stream:{folder}", size=(4, 8))
    assert torch.equal(streamed.train[:], images.train)
    assert load_images("digits", size=(8, 20)).shape == (1, 8, 20)
    assert load_images("photographs", size=(16, 40)).shape == (3, 16, 40)


@pytest.mark.parametrize("size", [100000000, (4, 5000), (3, 4, 5), "9", 2.5, True])
def test_sizes_that_no_picture_has_are_refused_before_anything_is_read(size: object) -> None:
    for name in ("digits", "photographs", "folder:nowhere"):
        with pytest.raises(StimulusError, match=r"^size: expected"):
            load_images(name, size=size)  # type: ignore[arg-type]


def test_images_that_would_be_resized_beyond_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurossl.stimuli.datasets.access.free_memory", lambda: 10**6)
    for name in ("digits", "photographs"):
        with pytest.raises(StimulusError, match=r"GB, 0\.0 GB of memory are free: give a smaller size$"):
            load_images(name, size=1000)


def test_a_set_has_the_same_digest_wherever_its_folder_is(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = load_images(f"folder:{folder}").digest
    monkeypatch.chdir(tmp_path)
    assert load_images("folder:./images").digest == digest
    assert load_images("folder:images", cache=tmp_path / "cache").digest == digest
    folder.rename(tmp_path / "moved")
    assert load_images(tmp_path / "moved").digest == digest
    assert load_images("stream:moved", size=8).digest == digest
    assert len(digest) == 32


def test_a_changed_folder_has_another_digest(folder: Path) -> None:
    seen = {load_images(folder).digest, load_images(folder, size=6).digest, load_images(folder, grayscale=True).digest}
    (folder / "train" / "cat" / "0.png").rename(folder / "train" / "cat" / "zero.png")
    seen.add(load_images(folder).digest)
    Image.new("RGB", (8, 8)).save(folder / "train" / "cat" / "zero.png")
    seen.add(load_images(folder).digest)
    (folder / "test" / "dog" / "1.jpg").unlink()
    seen.add(load_images(folder).digest)
    (folder / "train" / "cat" / "zero.png").rename(folder / "train" / "dog" / "zero.png")
    seen.add(load_images(folder).digest)
    assert len(seen) == 7


def test_names_that_cannot_be_stored_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"two\nlines", b"\x1b[31mred"):
        bad = tmp_path / os.fsdecode(name)
        make_folder(bad, TWO)
        assert "the name is no printable UTF-8 text" in refused(bad)
        make_folder(tmp_path / "good" / os.fsdecode(name), TWO)
        assert "the name is no printable UTF-8 text" in refused(tmp_path / "good" / os.fsdecode(name))
    inner = make_folder(tmp_path / "inner", TWO)
    for part in ("train", "test"):
        (inner / part / "dog").rename(inner / part / os.fsdecode(b"d\xf6g"))
    assert "class 'd\\xf6g': the name is no printable UTF-8 text" in refused(inner)
    greek = make_folder(tmp_path / "Ελλάδα", {"γάτα": (8, 8), "猫": (8, 8)})
    assert load_images(greek).classes == ("γάτα", "猫")


def test_files_of_any_name_are_read_and_named_in_one_line(folder: Path) -> None:
    odd = folder / "train" / "cat" / os.fsdecode(b"a\xff\n.png")
    (folder / "train" / "cat" / "0.png").rename(odd)
    assert loaded(folder)[0] == EIGHT
    odd.write_bytes(b"nothing")
    assert "a\\xff\\n.png: cannot be read" in refused(folder)


def test_the_command_line_refuses_a_folder_whose_name_cannot_be_stored(tmp_path: Path) -> None:
    bad = make_folder(tmp_path / os.fsdecode(b"caf\xe9"), TWO)
    command = [sys.executable, "-m", "protocols.cli", "run", "compare_rules", "--tiny", "--out", str(tmp_path / "run")]
    done = subprocess.run([*command, "--dataset", b"folder:" + os.fsencode(bad)], capture_output=True, timeout=100)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert b"caf\\xe9" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_folder_that_may_not_be_read_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("neurossl.stimuli.datasets.walking.os.scandir", forbidden)
    assert f"image folder {folder / 'train' / 'cat'}: cannot be read (Permission denied)" in refused(folder)


def test_annotations_of_tiny_imagenet_lead_nowhere_else(tmp_path: Path) -> None:
    for part in ("train/n01/images", "val/images"):
        (tmp_path / part).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / part / "0.JPEG")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.JPEG")
    (tmp_path / "val" / "val_annotations.txt").write_text("0.JPEG\tn01\n../../secret.JPEG\tn01\n")
    with pytest.raises(StimulusError, match="line 2: expected a file"):
        load_images("tiny_imagenet", data_dir=tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StimulusError, match=r"val_annotations\.txt: cannot be read"):
        load_images("tiny_imagenet", data_dir=tmp_path)


def test_streamed_images_are_found_when_the_working_folder_changes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = load_images("stream:images", size=8)
    monkeypatch.chdir("/")
    assert torch.equal(images.train[:], load_images(folder).train)


def test_a_home_that_nobody_has_is_one_line() -> None:
    for options in ({"name": "folder:~nobody-of-this-name/x"}, {"name": "mnist", "data_dir": "~nobody-of-this-name"}):
        with pytest.raises(StimulusError, match=r"~nobody-of-this-name.*: give the whole path"):
            load_images(**options)  # type: ignore[arg-type]


def test_several_threads_may_use_one_stream(folder: Path) -> None:
    """Of streamed images, of which each asks for more ahead than are kept."""
    images = load_images(f"stream:{folder}", size=8)
    stream = ViewPairs(images, None, Views(8), observers=4, moments=60)
    expected = [moment.require(Fixation, "t").stimulus for moment in stream]

    def differing(first: int) -> int:
        shown = ((n, stream[n].require(Fixation, "t").stimulus) for n in [*range(first, 60), *range(first)])
        return sum(not torch.equal(expected[number], stimulus) for number, stimulus in shown)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(differing, range(0, 60, 7))) == [0] * 9


def test_streamed_images_take_every_index_that_a_tensor_takes(folder: Path) -> None:
    images, resident = load_images(f"stream:{folder}", size=8).train, load_images(folder).train
    assert isinstance(images, StreamedImages)
    mask = torch.tensor([True, False, False, True, False, False, False, True])
    for index in (
        *(mask, mask.numpy(), mask.tolist(), ~mask & mask),
        *(3, -1, np.int64(2), torch.tensor(5)),
        *(slice(None), slice(1, 7, 3), slice(5, 2), slice(-3, None)),
        *([], [0, 5, 5], [-1], range(2, 4), np.array([3, 1], np.int16)),
        *(torch.tensor([7, 0], dtype=torch.int32), torch.tensor([[1, 2], [3, 4]]), torch.empty(0, dtype=torch.int64)),
    ):
        expected = resident[list(index) if isinstance(index, range) else index]  # type: ignore[index]
        assert torch.equal(images[index], expected), index
        if expected.ndim == 4:
            assert torch.equal(images.subset(index)[:], expected)
    # To torch a mask of an old kind, to numpy numbers.
    assert torch.equal(images[np.array([2, 1], np.uint8)], resident[[2, 1]])
    assert [len(picture) for picture in images] == [3] * 8, "going through them ends"


@pytest.mark.parametrize(
    "index",
    [8, -9, [0, 8], torch.tensor([8]), [True] * 7, 1.5, [0.5], "a", None, ..., (0, 1), torch.tensor([0.0]), object()],
)
def test_streamed_images_refuse_what_is_no_index_of_theirs(folder: Path, index: object) -> None:
    images = load_images(f"stream:{folder}", size=8).train
    with pytest.raises(StimulusError, match=r"^streamed images: ") as caught:
        images[index]  # type: ignore[index]
    assert isinstance(caught.value, IndexError), "as of any sequence"
