"""Image sets: what is embedded, what torchvision reads, and folders of pictures."""

import gzip
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import generator, make_folder
from PIL import Image

from neurossl.errors import OptionError, StimulusError
from neurossl.stimuli import ImageSet, load_images


def test_digits_are_embedded_split_by_class_and_large(digits: ImageSet) -> None:
    assert digits.shape == (1, 16, 16)
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    shares = torch.bincount(digits.test_labels) / (torch.bincount(digits.train_labels) + torch.bincount(digits.test_labels))
    assert float((shares - 0.2).abs().max()) < 0.005
    rows = {bytes(image.numpy().tobytes()) for image in digits.train}
    assert not any(bytes(image.numpy().tobytes()) in rows for image in digits.test)
    assert "load_digits" in digits.source
    assert "1438 + 359" in repr(digits)


def test_subsets_are_balanced_and_a_function_of_the_generator(digits: ImageSet) -> None:
    some = digits.limited(100, 53, generator(1))
    assert torch.bincount(some.train_labels).tolist() == [10] * 10
    assert set(torch.bincount(some.test_labels).tolist()) == {5, 6}
    assert torch.equal(some.train, digits.limited(100, 53, generator(1)).train)
    assert not torch.equal(some.train, digits.limited(100, 53, generator(2)).train)
    assert torch.equal(digits.limited(10**6, 10**6, generator()).train, digits.train)
    with pytest.raises(OptionError, match="at least 1 training and 1 test image, got -1 and 5"):
        digits.limited(-1, 5, generator())


def test_handwriting_of_another_size_stays_silent_in_the_background() -> None:
    small = load_images("digits", size=8)
    assert small.shape == (1, 8, 8)
    assert (small.mean, small.std) == ((0.0,), (1.0,))
    assert (len(small.train), len(small.test)) == (1438, 359)
    with pytest.raises(StimulusError, match="whole number from 1 to 4,096, got 0"):
        load_images("digits", size=0)


def test_photographs_are_embedded_natural_images() -> None:
    images = load_images("photographs")
    assert images.shape == (3, 32, 32)
    assert torch.bincount(images.train_labels).tolist() == [512, 512]
    assert torch.bincount(images.test_labels).tolist() == [128, 128]
    assert all(0.2 < m < 0.7 for m in images.mean)
    # Neighbouring pixels of natural images are alike, and the pictures are not copies of one another.
    pixels = images.train.double()
    assert float((pixels[..., 1:] - pixels[..., :-1]).abs().mean()) < float(pixels.std()) / 2
    assert len({bytes(p.numpy().tobytes()) for p in images.train}) > 1000
    assert torch.equal(load_images("photographs").train, images.train)
    assert load_images("photographs", size=96, grayscale=True).shape == (1, 96, 96)


def write_mnist(root: Path, count: int = 30) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, name in (("train", "train"), ("test", "t10k")):
        pixels = np.random.default_rng(len(part)).integers(0, 256, (count, 28, 28), np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
        with gzip.open(raw / f"{name}-images-idx3-ubyte.gz", "wb") as file:
            file.write(b"")


def test_torchvision_reads_what_is_there(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    images = load_images("mnist", data_dir=tmp_path)
    assert images.shape == (1, 28, 28)
    assert images.train_labels.tolist() == [i % 10 for i in range(30)]
    assert load_images("mnist", data_dir=tmp_path, size=14).shape == (1, 14, 14)


@pytest.mark.parametrize("content", [b"", b"abc", b"not an idx file at all" * 99], ids=["empty", "short", "text"])
def test_damaged_data_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(StimulusError, match="'mnist': not found or damaged in") as caught:
        load_images("mnist", data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert " ()" not in str(caught.value)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "stl10"])
def test_absent_data_is_one_clear_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(StimulusError, match=r"--data-dir, or --download") as caught:
        load_images(name, data_dir=tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("test", ["test", "val"])
def test_image_folders_of_any_format(tmp_path: Path, test: str) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (8, 8), "dog": (8, 8)}, test=test)
    images = load_images(f"folder:{folder}")
    assert images.classes == ("cat", "dog")
    assert images.train.shape == (6, 3, 8, 8)
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    with Image.open(folder / "train" / "cat" / "0.png") as first:
        assert np.array_equal(images.train[0].permute(1, 2, 0).numpy(), np.asarray(first))
    mean = images.train.double().div(255).mean((0, 2, 3))
    assert images.mean == pytest.approx(mean.tolist(), abs=1e-5)
    grey = load_images(f"folder:{folder}", grayscale=True)
    assert grey.shape == (1, 8, 8)
    with Image.open(folder / "train" / "cat" / "0.png") as first:
        assert np.abs(grey.train[0, 0].numpy().astype(int) - np.asarray(first.convert("L")).astype(int)).max() <= 1


def test_sizes_are_unified_and_it_is_said(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (12, 12), "dog": (9, 20), "emu": (12, 12)})
    with pytest.warns(UserWarning, match="6 of 18 images .* resized and cropped to 12 x 12"):
        images = load_images(f"folder:{folder}")
    assert images.shape == (3, 12, 12)
    assert images.notes == ("6 of 18 images (2 sizes) resized and cropped to 12 x 12 pixels",)
    assert load_images(f"folder:{folder}", size=5).shape == (3, 5, 5), "what is asked for is no reason to warn"
    # The middle of a picture is kept: a white column in its middle stays, white columns at its ends go.
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 12], wide[:, :4], wide[:, -4:] = 255, 255, 255
    for part in ("train", "test"):
        (tmp_path / "wide" / part / "a").mkdir(parents=True)
        Image.fromarray(wide).save(tmp_path / "wide" / part / "a" / "0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        middle = load_images(f"folder:{tmp_path / 'wide'}").train[0, 0]
    assert middle.shape == (8, 8)
    assert (middle == 255).sum(0).tolist() == [0, 0, 0, 0, 8, 0, 0, 0]


def test_deep_grey_values_keep_their_contrast(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(folder / "train" / "cat" / "0.png")
    shown = load_images(f"folder:{folder}").train[0]
    assert torch.equal(shown, torch.from_numpy((ramp / 257).round().astype(np.uint8)).expand(3, 8, 8))
    Image.fromarray(ramp.astype(np.float32)).save(folder / "train" / "cat" / "3.tif")
    with pytest.raises(StimulusError, match=r"3\.tif: cannot be read \(neither 8 nor 16 bits per channel\)"):
        load_images(f"folder:{folder}")


def test_folders_may_be_nested_and_hold_other_files(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (8, 8), "dog": (8, 8)})
    plain = load_images(f"folder:{folder}")
    (folder / "train" / "dog" / "images").mkdir()
    for file in list((folder / "train" / "dog").glob("*.*")):
        file.rename(folder / "train" / "dog" / "images" / file.name)
    (folder / "train" / "dog" / "boxes.txt").write_text("0 0 8 8")
    (folder / "test" / "cat" / ".hidden").write_text("")
    with pytest.warns(UserWarning, match="left out: 1 files that are no images by their names, 1 hidden files or folders"):
        nested = load_images(f"folder:{folder}")
    assert torch.equal(nested.train, plain.train)
    assert torch.equal(nested.train_labels, plain.train_labels)
    assert len(nested.notes) == 1


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "images", {"cat": (8, 8)})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_images("folder:~/images").name == "folder:images"


@pytest.mark.parametrize(("terminal", "many", "shown"), [(True, 5000, True), (False, 5000, False), (False, 5, True)])
def test_reading_many_images_shows_progress(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    many: int,
    shown: bool,
) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    monkeypatch.setattr("neurossl.stimuli.datasets.loading._MANY", many)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    load_images(f"folder:{folder}")
    output = capsys.readouterr()
    assert ("reading images" in output.err) == shown
    assert output.out == ""


def test_folders_that_cannot_be_shown_are_refused_by_path(tmp_path: Path) -> None:
    good = {"cat": (8, 8), "dog": (8, 8)}

    def refused(folder: Path) -> str:
        with pytest.raises(StimulusError) as caught:
            load_images(f"folder:{folder}")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "there is no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    assert "no folder 'train'" in refused(tmp_path / "bare")
    (tmp_path / "bare" / "train").mkdir()
    assert "neither 'test' nor 'val'" in refused(tmp_path / "bare")
    (tmp_path / "bare" / "test").mkdir()
    assert "no class folders" in refused(tmp_path / "bare")
    empty = make_folder(tmp_path / "empty", good)
    (empty / "train" / "emu").mkdir()
    assert "emu: there are no images" in refused(empty)
    lonely = make_folder(tmp_path / "lonely", good)
    for file in (lonely / "test" / "dog").iterdir():
        file.unlink()
    (lonely / "test" / "dog").rmdir()
    assert f"{lonely / 'test'}: there is no class 'dog'" in refused(lonely)
    for name in "abcdefg":
        (lonely / "test" / name).mkdir()
        Image.new("RGB", (8, 8)).save(lonely / "test" / name / "0.png")
    (lonely / "train" / "dog" / "0.png").rename(lonely / "test" / "a" / "1.png")
    for file in (lonely / "train" / "dog").iterdir():
        file.unlink()
    (lonely / "train" / "dog").rmdir()
    assert f"{lonely / 'train'}: there is no class 'a', 'b', 'c', 'd', 'e' and 2 more" in refused(lonely)
    words = make_folder(tmp_path / "words", good)
    for file in (words / "test" / "cat").iterdir():
        file.rename(file.with_suffix(".txt"))
    assert f"{words / 'test' / 'cat'}: there are no images" in refused(words)
    broken = make_folder(tmp_path / "broken", good)
    whole = (broken / "train" / "cat" / "1.jpg").read_bytes()
    (broken / "train" / "cat" / "1.jpg").write_bytes(whole[: len(whole) // 3])
    assert "1.jpg: cannot be read" in refused(broken)
    (broken / "train" / "cat" / "1.jpg").write_text("not an image")
    assert "1.jpg: cannot be read" in refused(broken)


def test_unknown_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StimulusError, match="did you mean 'digits'"):
        load_images("digit")
    with pytest.raises(StimulusError, match="there are: digits, photographs, mnist"):
        load_images("imagenet21k")
    with pytest.raises(StimulusError, match="did you mean 'mnist'"):
        load_images("MNIST")
    with pytest.raises(StimulusError, match=f"did you mean 'folder:{tmp_path}'"):
        load_images(str(tmp_path))
