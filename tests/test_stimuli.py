"""Stimuli: images, random views, streams of moments."""

import gzip
import struct
import warnings
from pathlib import Path

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
    assert load_images(f"folder:{folder}", grayscale=True).shape == (1, 8, 8)


def test_sizes_are_unified_and_it_is_said(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (12, 12), "dog": (9, 20), "emu": (12, 12)})
    with pytest.warns(UserWarning, match="6 of 18 images .* resized and cropped to 12 x 12"):
        images = load_images(f"folder:{folder}")
    assert images.shape == (3, 12, 12)
    assert images.notes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_images(f"folder:{folder}", size=5).shape == (3, 5, 5)


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
    assert "class 'dog' is in only one of" in refused(lonely)
    broken = make_folder(tmp_path / "broken", good)
    whole = (broken / "train" / "cat" / "1.jpg").read_bytes()
    (broken / "train" / "cat" / "1.jpg").write_bytes(whole[: len(whole) // 3])
    assert "1.jpg: cannot be read" in refused(broken)
    (broken / "train" / "cat" / "1.jpg").write_text("not an image")
    assert "1.jpg: cannot be read" in refused(broken)


def test_unknown_data_sets_are_refused() -> None:
    with pytest.raises(StimulusError, match="did you mean 'digits'"):
        load_images("digit")
    with pytest.raises(StimulusError, match="there are: digits, mnist"):
        load_images("imagenet21k")


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


def test_views_are_checked() -> None:
    for options, message in (
        ({"flip": 2.0}, "probability"),
        ({"zoom": 1.0}, "zoom < 1"),
        ({"crop_scale": (0.5, 0.2)}, "0 < low <= high"),
        ({"blur_kernel": 4}, "odd"),
        ({"rotation": -1.0}, ">= 0"),
        ({"std": (0.0,)}, "> 0"),
    ):
        with pytest.raises(OptionError, match=message):
            Views(8, **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="at least 1 pixel"):
        Views(0)


def test_streams_are_functions_of_seed_and_number(digits: ImageSet) -> None:
    common = {"observers": 32, "moments": 100}
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
    with pytest.raises(OptionError, match="expected a time"):
        ViewPairs(images, labels, views, observers=2, fixation_duration=3 * mV)
