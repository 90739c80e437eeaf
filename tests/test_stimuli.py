"""Stimuli: images, random views, streams of moments."""

import gzip
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from brian2 import ms, mV
from PIL import Image
from torchvision.transforms import v2

from neurossl.errors import OptionError, StimulusError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
from neurossl.stimuli import (
    DoubledInput,
    FixationSequence,
    ImageSet,
    ViewPairs,
    Views,
    WakeSleep,
    default_views,
    hybrid_mask,
    load_images,
    write_label,
)
from neurossl.stimuli.views import _adjusted, _hue_turned


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal(one: Moment, other: Moment) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        set(vars(a)) == set(vars(b)) and all(v is None or torch.equal(v, vars(b)[k]) for k, v in vars(a).items())
        for a, b in pairs
    )


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
    with pytest.raises(StimulusError, match="at least 1 pixel, got 0"):
        load_images("digits", size=0)


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


def make_folder(path: Path, sizes: dict[str, tuple[int, int]], per_class: int = 3, test: str = "test") -> Path:
    rng = np.random.default_rng(0)
    for part in ("train", test):
        for name, size in sizes.items():
            (path / part / name).mkdir(parents=True)
            for number in range(per_class):
                kind = ("png", "jpg", "bmp")[number % 3]
                Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path / part / name / f"{number}.{kind}")
    return path


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
    with pytest.warns(UserWarning, match="18 of 18 images"):
        at_once = load_images(f"folder:{folder}", size=12 - 7)
    assert at_once.shape == (3, 5, 5)
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
    with pytest.warns(UserWarning, match="1 files that are no images by their names left out"):
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
    monkeypatch.setattr("neurossl.stimuli.folders._MANY", many)
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
    with pytest.raises(StimulusError, match="there are: digits, mnist"):
        load_images("imagenet21k")
    with pytest.raises(StimulusError, match="did you mean 'mnist'"):
        load_images("MNIST")
    with pytest.raises(StimulusError, match=f"did you mean 'folder:{tmp_path}'"):
        load_images(str(tmp_path))


def test_views_are_functions_of_the_generator(digits: ImageSet) -> None:
    views = default_views(digits)
    images = digits.train[:50]
    assert torch.equal(views(images, generator(1)), views(images, generator(1)))
    assert not torch.equal(views(images, generator(1)), views(images, generator(2)))
    assert torch.equal(views.still(images), images.float() / 255)
    moved = views(images, generator(1))
    assert moved.dtype == torch.float32
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1


def test_views_without_parameters_are_the_images(digits: ImageSet) -> None:
    images = digits.train[:5]
    assert torch.equal(Views(16)(images, generator()), images.float() / 255)
    assert Views(8)(images, generator()).shape == (5, 1, 8, 8)


def test_rotation_and_flip_agree_with_torchvision() -> None:
    image = torch.rand(1, 1, 33, 33, generator=generator(5))
    flipped = Views(33, flip=1.0)(image, generator())
    assert torch.allclose(flipped, image.flip(3), atol=1e-5)
    turned = Views(33, rotation=180.0)(image.repeat(2000, 1, 1, 1), generator())
    # All angles from -180 to 180: the mean over views is the mean over torchvision's rotations.
    angles = torch.linspace(-180, 180, 721)[:-1]
    rotations = [v2.functional.rotate(image, float(a), interpolation=v2.InterpolationMode.BILINEAR) for a in angles]
    assert float((turned.mean(0) - torch.stack(rotations).mean(0)).abs().mean()) < 0.01


def places(views: Views, rows: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where views look: the affine map (rows, 2, 2) and its centre (rows, 2), read from an image of coordinates."""
    axis = (torch.arange(65) * 2 + 1) / 65 - 1
    coordinates = torch.stack([axis.repeat(65, 1), axis.repeat(65, 1).T])
    seen = views(coordinates.repeat(rows, 1, 1, 1), generator(3))
    middle = views.size // 2
    centre = seen[:, :, middle, middle]
    step = views.size / 2
    across, down = seen[:, :, middle, middle + 1] - centre, seen[:, :, middle + 1, middle] - centre
    return torch.stack([across, down], 2) * step, centre


def assert_uniform(samples: torch.Tensor, low: float, high: float) -> None:
    """Compare quantiles with those of a uniform distribution: five standard errors of the median."""
    probability = torch.linspace(0.02, 0.98, 25)
    margin = 2.5 * (high - low) / len(samples) ** 0.5
    assert low - 1e-3 * (high - low) <= float(samples.min()) <= float(samples.max()) <= high + 1e-3 * (high - low)
    assert torch.allclose(samples.quantile(probability), low + probability * (high - low), atol=margin, rtol=0)


def test_movements_are_uniform_in_their_ranges() -> None:
    turned, centre = places(Views(33, rotation=25.0))
    assert_uniform(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg(), -25, 25)
    assert torch.allclose(torch.linalg.det(turned), torch.ones(4000), atol=1e-3)
    assert torch.allclose(centre, torch.zeros(4000, 2), atol=1e-3)
    zoomed, _ = places(Views(33, zoom=0.25))
    assert_uniform(1 / zoomed[:, 0, 0], 0.75, 1.25)
    assert torch.allclose(zoomed[:, 0, 0], zoomed[:, 1, 1], atol=1e-3)
    _, centre = places(Views(33, shift=0.2))
    # Coordinates go from -1 to 1: a fifth of the image is 0.4.
    for moved in centre.T:
        assert_uniform(moved, -0.4, 0.4)
    mirrored, _ = places(Views(33, flip=0.3))
    assert float((mirrored[:, 0, 0] < 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert bool((mirrored[:, 1, 1] > 0).all())


def test_crops_are_distributed_as_torchvisions() -> None:
    cut, centre = places(Views(33, crop_scale=(0.25, 0.5)))
    torch.manual_seed(0)
    canvas = torch.empty(3, 1000, 1000)
    boxes = [v2.RandomResizedCrop(33, (0.25, 0.5)).make_params([canvas]) for _ in range(4000)]
    top, left, high, wide = (torch.tensor([b[k] / 1000 for b in boxes]) for k in ("top", "left", "height", "width"))
    pairs = (
        (cut[:, 0, 0], wide),
        (cut[:, 1, 1], high),
        (cut[:, 0, 0] * cut[:, 1, 1], wide * high),
        (centre[:, 0], 2 * left + wide - 1),
        (centre[:, 1], 2 * top + high - 1),
    )
    probability = torch.linspace(0.02, 0.98, 25)
    for ours, theirs in pairs:
        spread = float(theirs.quantile(0.98) - theirs.quantile(0.02))
        assert torch.allclose(ours.quantile(probability), theirs.quantile(probability), atol=0.06 * spread)


def test_a_moved_view_stands_the_right_way_up() -> None:
    """All movements together are the movements one after the other: nothing is sheared or stretched."""
    moved, _ = places(Views(33, rotation=25.0, zoom=0.25, shift=0.1))
    product = moved.transpose(1, 2) @ moved
    assert torch.allclose(product[:, 0, 1], torch.zeros(4000), atol=2e-3)
    assert torch.allclose(product[:, 0, 0], product[:, 1, 1], atol=2e-3)
    assert bool((torch.linalg.det(moved) > 0).all())


def test_colours_change_as_torchvisions() -> None:
    pictures = torch.rand(6, 3, 9, 9, generator=generator(4))
    pictures[5] = 0.5
    for turn in (-0.5, -0.2, 0.0, 0.13, 0.5):
        theirs = v2.functional.adjust_hue(pictures, turn)
        assert torch.allclose(_hue_turned(pictures, torch.full((6,), turn)), theirs, atol=1e-5)
    for what in ("brightness", "contrast", "saturation"):
        for factor in (0.2, 1.0, 1.8):
            theirs = getattr(v2.functional, f"adjust_{what}")(pictures, factor)
            assert torch.allclose(_adjusted(pictures, what, torch.full((6, 1, 1, 1), factor)), theirs, atol=1e-3)
    greyed = Views(9, grayscale=1.0)(pictures, generator())
    assert torch.allclose(greyed, v2.functional.rgb_to_grayscale(pictures, 3), atol=1e-3)


def test_colours_are_drawn_from_their_ranges() -> None:
    def seen(colour: tuple[float, float, float], **options: float) -> torch.Tensor:
        flat = torch.tensor(colour).view(1, 3, 1, 1).repeat(4000, 1, 4, 4)
        return Views(4, **{"jitter": 1.0, **options})(flat, generator(6))[:, :, 0, 0]  # type: ignore[arg-type]

    assert_uniform(seen((0.5, 0.5, 0.5), brightness=0.8)[:, 0] / 0.5, 0.2, 1.8)
    red, green, blue = seen((0.6, 0.4, 0.4), hue=0.2).unbind(1)
    hue = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
    assert float(hue.min()) < -0.19
    assert float(hue.max()) > 0.19
    assert float(hue.abs().max()) <= 0.205
    assert abs(float(hue.mean())) < 0.01
    strong = seen((0.6, 0.4, 0.5), saturation=0.5)
    assert_uniform((strong[:, 0] - strong[:, 1]) / 0.2, 0.5, 1.5)
    changed = (seen((0.5, 0.5, 0.5), brightness=0.8, jitter=0.3) != 0.5).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.03)
    grey = seen((0.6, 0.4, 0.5), grayscale=0.2, jitter=0.0)
    assert float((grey[:, 0] == grey[:, 1]).float().mean()) == pytest.approx(0.2, abs=0.03)


def test_blur_is_torchvisions_with_a_width_per_row() -> None:
    point = torch.zeros(4000, 1, 9, 9)
    point[:, :, 4, 4] = 1
    seen = Views(9, blur=0.5, blur_kernel=5)(point, generator(7))
    blurred = seen[(seen != point).flatten(1).any(1)]
    # A blur narrower than 0.2 pixels leaves a point of float32 as it is.
    assert len(blurred) / 4000 == pytest.approx(0.5 * 1.85 / 1.9, abs=0.04)
    sigma = (-0.5 / (blurred[:, 0, 4, 5] / blurred[:, 0, 4, 4]).log()).sqrt()
    assert_uniform(sigma[sigma > 0.4], 0.4, 2.0)
    for row in range(5):
        theirs = v2.functional.gaussian_blur(point[:1], [5, 5], [float(sigma[row])] * 2)
        assert torch.allclose(blurred[row], theirs[0], atol=1e-5)


def moments_of(samples: torch.Tensor) -> torch.Tensor:
    return torch.stack([samples.mean(), samples.std(), samples.flatten(1).std(1).mean(), samples.mean((2, 3)).std()])


def test_natural_views_are_distributed_as_torchvisions() -> None:
    """SimCLR's augmentations, compared by the statistics of many views of one picture."""
    ramp = torch.linspace(0, 255, 32)
    picture = torch.stack([ramp.repeat(32, 1), ramp.repeat(32, 1).T, 255 - ramp.repeat(32, 1)]).to(torch.uint8)
    views = Views(
        32,
        crop_scale=(0.25, 1.0),
        flip=0.5,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8,
        hue=0.2,
        jitter=0.8,
        grayscale=0.2,
        blur=0.5,
        blur_kernel=3,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )
    jitter = v2.ColorJitter(0.8, 0.8, 0.8, 0.2)
    theirs = v2.Compose(
        [
            v2.RandomResizedCrop(32, (0.25, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([jitter], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(3, (0.1, 2.0))], 0.5),
        ]
    )
    torch.manual_seed(0)
    want = torch.stack([theirs(picture.float() / 255) for _ in range(1200)])
    got = torch.cat([views(picture[None].repeat(400, 1, 1, 1), generator(seed)) for seed in range(10)])
    assert torch.allclose(moments_of(got), moments_of(want), atol=0.02), (moments_of(got), moments_of(want))


def image_set(pixels: torch.Tensor, mean: float, std: float) -> ImageSet:
    channels = pixels.shape[1]
    labels = torch.zeros(len(pixels)).long()
    return ImageSet("own", ("any",), pixels, labels, pixels, labels, (mean,) * channels, (std,) * channels, "made here")


def test_default_views_move_handwriting_and_crop_nature(digits: ImageSet) -> None:
    hand = default_views(digits)
    assert hand.rotation > 0
    assert (hand.flip, hand.crop_scale, hand.jitter, hand.mean, hand.std) == (0, (1, 1), 0, (0,), (1,))
    colour = default_views(image_set(torch.zeros(1, 3, 32, 32).byte(), 0.5, 0.25))
    assert (colour.rotation, colour.flip, colour.crop_scale, colour.blur_kernel) == (0, 0.5, (0.25, 1), 3)
    assert default_views(image_set(torch.zeros(1, 3, 96, 96).byte(), 0.5, 0.25)).crop_scale == (0.08, 1)
    assert default_views(image_set(torch.zeros(1, 3, 96, 96).byte(), 0.5, 0.25)).blur_kernel == 9
    # Nature in grey is still nature: cropped, flipped and normalised; only what changes colour falls away.
    pixels = torch.randint(0, 256, (200, 1, 32, 32), dtype=torch.uint8, generator=generator(1))
    grey = default_views(image_set(pixels, 0.5, 0.25))
    assert (grey.rotation, grey.crop_scale, grey.flip, grey.brightness) == (0, (0.25, 1), 0.5, 0.8)
    assert (grey.saturation, grey.hue, grey.grayscale) == (0, 0, 0)
    assert (grey.mean, grey.std) == ((0.5,), (0.25,))
    shown = grey(pixels, generator())
    assert shown.shape == (200, 1, 32, 32)
    assert -2 <= float(shown.min()) < -1.5
    assert 1.5 < float(shown.max()) <= 2


def test_views_are_computed_where_the_images_are(digits: ImageSet) -> None:
    """Draws stay on the CPU; nothing of the pixels is. The meta device refuses a mixture, as a GPU does."""
    far = digits.train.to("meta")
    common: dict[str, Any] = {"observers": 8, "moments": 2}
    natural = default_views(image_set(torch.zeros(1, 3, 32, 32).byte(), 0.5, 0.25))
    assert natural(torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device="meta"), generator()).device.type == "meta"
    for stream in (
        ViewPairs(far, digits.train_labels, default_views(digits), negatives="random", **common),
        WakeSleep(far, digits.train_labels, default_views(digits), 10, **common),
        WakeSleep(far, digits.train_labels, default_views(digits), 10, negatives="hybrids", **common),
        DoubledInput(far, digits.train_labels, default_views(digits), **common),
        FixationSequence(far, digits.train_labels, default_views(digits), staggered=True, **common),
    ):
        assert stream[1].require(Fixation, "t").stimulus.device.type == "meta"


def test_views_are_checked() -> None:
    for options, message in (
        ({"flip": 2.0}, "probability"),
        ({"zoom": 1.0}, "zoom < 1"),
        ({"crop_scale": (0.5, 0.2)}, "0 < low <= high"),
        ({"blur_kernel": 4}, "odd"),
        ({"rotation": -1.0}, ">= 0"),
        ({"std": (0.0,)}, "> 0"),
        ({"crop_scale": (0.5,)}, "0 < low <= high"),
        ({"blur": 0.5, "blur_kernel": 17}, "at most 15 pixels, got 17"),
        ({"rotation": float("nan")}, ">= 0"),
    ):
        checked: dict[str, Any] = options
        with pytest.raises(OptionError, match=message):
            Views(8, **checked)
    assert Views(8, blur=1.0, blur_kernel=15)(torch.rand(2, 3, 8, 8), generator()).shape == (2, 3, 8, 8)
    with pytest.raises(StimulusError, match="3 means for images of 1 channels"):
        Views(8, mean=(0.0,) * 3, std=(1.0,) * 3)(torch.rand(2, 1, 8, 8), generator())
    with pytest.raises(OptionError, match="at least 1 pixel"):
        Views(0)


def test_streams_are_functions_of_seed_and_number(digits: ImageSet) -> None:
    common: dict[str, Any] = {"observers": 32, "moments": 100}
    views = default_views(digits)
    streams = [
        lambda seed: ViewPairs(digits.train, digits.train_labels, views, seed=seed, negatives="random", **common),
        lambda seed: WakeSleep(digits.train, digits.train_labels, views, 10, seed=seed, **common),
        lambda seed: WakeSleep(digits.train, digits.train_labels, views, 10, seed=seed, negatives="hybrids", **common),
        lambda seed: DoubledInput(digits.train, digits.train_labels, views, seed=seed, **common),
        lambda seed: FixationSequence(digits.train, digits.train_labels, views, seed=seed, **common),
    ]
    for make in streams:
        stream = make(1)
        assert len(stream) == 100
        jumped = stream[47]
        walked = next(moment for number, moment in enumerate(make(1)) if number == 47)
        assert equal(jumped, walked)
        assert not torch.equal(jumped.require(Fixation, "t").stimulus, make(2)[47].require(Fixation, "t").stimulus)
        with pytest.raises(IndexError):
            stream[100]


def test_every_moment_draws_views_of_its_own(digits: ImageSet) -> None:
    """The same images, moment after moment, never look the same twice; nor do the two views of a moment."""
    few, names = digits.train[:20], torch.arange(20)
    stream = ViewPairs(few, names, default_views(digits), observers=20, moments=3)
    shown = []
    for moment in stream:
        order = moment.require(Teaching, "t").labels[:20].argsort()
        shown += [view[order] for view in moment.require(Fixation, "t").stimulus.split(20)]
    for i, one in enumerate(shown):
        assert not any(bool((one == other).flatten(1).all(1).any()) for other in shown[:i])


def test_an_epoch_shows_every_image_once(digits: ImageSet) -> None:
    stream = ViewPairs(digits.train, digits.train_labels, default_views(digits), observers=100, moments=28)
    for epoch in range(2):
        shown = torch.cat([stream.chosen(epoch * 14 + k) for k in range(14)])
        assert len(shown.unique()) == 1400
    assert not torch.equal(stream.chosen(0), stream.chosen(14))


def test_pairs_name_partners_and_landings_as_published(digits: ImageSet) -> None:
    stream = ViewPairs(digits.train, torch.arange(1438), Views(16), observers=4, moments=3, landings=2)
    moment = stream[0]
    fixation, saccade = moment.require(Fixation, "t"), moment.require(Saccade, "t")
    labels = moment.require(Teaching, "t").labels
    assert fixation.partner is not None
    assert saccade.landing is not None
    assert torch.equal(labels[fixation.partner], labels)
    assert torch.equal(fixation.stimulus[fixation.partner], fixation.stimulus)
    # Target rows are [view 2; view 1]; the negative of row r is target row r + 1, which is stimulus row (r + 1 + n) mod 2n.
    assert saccade.landing.tolist() == [[(r + k + 4) % 8 for r in range(8)] for k in (1, 2)]
    assert moment.observers == 4
    assert moment.duration == 0.5


def test_either_fixation_or_saccade_teaches(digits: ImageSet) -> None:
    stream = ViewPairs(digits.train, digits.train_labels, Views(16), observers=500, moments=1, transitions="either")
    event = stream[0].require(Neuromodulation, "t")
    assert event.saccade_gain is not None
    assert torch.equal(event.gain + event.saccade_gain, torch.ones(1000))
    assert 0.4 < float(event.gain.mean()) < 0.6


def test_labels_are_written_into_the_top_row(digits: ImageSet) -> None:
    images = torch.full((3, 1, 16, 16), 0.5)
    written = write_label(images, torch.tensor([0, 4, 9]), 10)
    assert written[:, 0, 0, :10].argmax(1).tolist() == [0, 4, 9]
    assert torch.equal(written[:, 0, 0, :10].sum(1), torch.ones(3))
    assert torch.equal(written[:, :, 1:], images[:, :, 1:])
    assert torch.equal(write_label(images, None, 10)[:, 0, 0, :10], torch.full((3, 10), 0.1))
    with pytest.raises(StimulusError, match="at least as wide"):
        write_label(torch.zeros(1, 1, 8, 8), torch.tensor([1]), 10)
    stream = WakeSleep(digits.train, digits.train_labels, Views(16), 10, observers=60, moments=2)
    moment = stream[1]
    stimulus, labels = moment.require(Fixation, "t").stimulus, moment.require(Teaching, "t").labels
    told = stimulus[:, 0, 0, :10].argmax(1)
    assert torch.equal(told[:60], labels[:60])
    assert bool((told[60:] != labels[60:]).all())
    assert torch.equal(stimulus[:60, :, 1:], stimulus[60:, :, 1:])
    assert moment.require(Phase, "t").sign.tolist() == [1.0] * 60 + [-1.0] * 60


def test_hybrids_are_patchworks_of_two_images(digits: ImageSet) -> None:
    stream = WakeSleep(digits.train, digits.train_labels, Views(16), 10, negatives="hybrids", observers=40, moments=1)
    awake, asleep = stream[0].require(Fixation, "t").stimulus.split(40)
    from_one, from_other = asleep == awake, asleep == awake.roll(1, 0)
    assert bool((from_one | from_other).all())
    assert bool((~from_one).flatten(1).any(1).all())
    mask = hybrid_mask(200, 16, 16, generator())
    assert 0.4 < float(mask.float().mean()) < 0.6
    assert float((mask[..., 1:] == mask[..., :-1]).float().mean()) > 0.8


def test_doubled_input_sums_two_halves(digits: ImageSet) -> None:
    stimulus = (
        DoubledInput(digits.train, digits.train_labels, Views(16), observers=20, moments=1)[0]
        .require(Fixation, "t")
        .stimulus
    )
    awake, asleep = stimulus.split(20)
    other = asleep - awake / 2
    away = next(k for k in range(1, 20) if torch.allclose(other, (awake / 2).roll(k, 0), atol=1e-6))
    assert 1 <= away < 20


@pytest.mark.parametrize("staggered", [False, True])
def test_fixation_sequences_stay_and_jump(digits: ImageSet, staggered: bool) -> None:
    stream = FixationSequence(
        digits.train,
        torch.arange(1438),
        Views(16),
        observers=3,
        moments=12,
        fixations_per_object=3,
        staggered=staggered,
        fixation_duration=250 * ms,
    )
    seen = torch.stack([moment.require(Teaching, "t").labels for moment in stream])
    jumps = torch.zeros(12, 3, dtype=torch.bool)
    for number, moment in enumerate(stream):
        saccade = moment.get(Saccade)
        if saccade is not None:
            assert saccade.observers is not None
            jumps[number] = saccade.observers
        assert moment.duration == 0.25
    changed = torch.zeros_like(jumps)
    changed[1:] = seen[1:] != seen[:-1]
    assert torch.equal(jumps, changed)
    assert int(jumps.sum()) >= 9


def test_streams_are_checked(digits: ImageSet) -> None:
    images, labels, views = digits.train[:10], digits.train_labels[:10], Views(16)
    with pytest.raises(StimulusError, match="11 observers need as many images, got 10"):
        ViewPairs(images, labels, views, observers=11)
    with pytest.raises(StimulusError, match="one label per image"):
        ViewPairs(images, labels[:3], views, observers=2)
    with pytest.raises(OptionError, match="'next' or 'random'"):
        ViewPairs(images, labels, views, observers=2, negatives="far")
    with pytest.raises(OptionError, match="'both' or 'either'"):
        ViewPairs(images, labels, views, observers=2, transitions="none")
    with pytest.raises(OptionError, match="'labels' or 'hybrids'"):
        WakeSleep(images, labels, views, 10, observers=2, negatives="noise")
    with pytest.raises(OptionError, match=r"whole number of observers >= 1, got 2\.5"):
        ViewPairs(images, labels, views, observers=2.5)
    with pytest.raises(OptionError, match="whole number of moments >= 1, got 0"):
        ViewPairs(images, labels, views, observers=2, moments=0)
    with pytest.raises(OptionError, match="landings: expected 1 to 3, got 4"):
        ViewPairs(images, labels, views, observers=2, landings=4)
    with pytest.raises(OptionError, match="fixations_per_object"):
        FixationSequence(images, labels, views, fixations_per_object=0)
    with pytest.raises(StimulusError, match="10 classes need images at least as wide, got 8"):
        WakeSleep(images, labels, Views(8), 10, observers=2)
    with pytest.raises(StimulusError, match="expected labels 0 to 4, got 0 to 9"):
        WakeSleep(images, torch.arange(10), views, 5, observers=2)
    with pytest.raises(StimulusError, match="two observers, got 1"):
        WakeSleep(images, labels, views, 10, negatives="hybrids", observers=1)
    with pytest.raises(StimulusError, match="two observers, got 1"):
        DoubledInput(images, labels, views, observers=1)
    with pytest.raises(OptionError, match="expected a time"):
        ViewPairs(images, labels, views, observers=2, fixation_duration=3 * mV)
