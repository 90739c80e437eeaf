"""Streams in ordinary use: again, later, with numpy, with other defaults of torch, of a DataLoader, with one of a thing."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import generator, image_set
from torch.utils.data import DataLoader, TensorDataset

from neurossl import Simulation, mlp
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.stimuli import (
    DoubledInput,
    FixationSequence,
    ImageSet,
    Stream,
    ViewPairs,
    Views,
    WakeSleep,
    default_views,
    hybrid_mask,
    stream_of_batches,
)
from neurossl.stimuli.views import augmentation, colour, geometry

NATURAL = image_set(torch.randint(0, 256, (24, 3, 12, 12), dtype=torch.uint8, generator=generator(7)), 0.5, 0.25)


def streams(images: ImageSet, **common: Any) -> list[Stream]:
    classes = len(images.classes)
    labelled = [WakeSleep(images, None, None, classes, **common)] if classes > 1 else []
    return [
        ViewPairs(images, **common),
        ViewPairs(images, sampling="random", transitions="either", negatives=2, **common),
        WakeSleep(images, negatives="hybrids", **common),
        DoubledInput(images, **common),
        FixationSequence(images, staggered=True, **common),
        *labelled,
    ]


def contents(moment: Moment) -> dict[str, torch.Tensor]:
    """Return all tensors of a moment."""
    return {
        f"{type(event).__name__}.{name}": value
        for event in moment
        for name, value in vars(event).items()
        if isinstance(value, torch.Tensor)
    }


def equal(one: Moment, other: Moment) -> bool:
    first, second = contents(one), contents(other)
    return set(first) == set(second) and all(
        value.dtype == second[name].dtype and torch.equal(value, second[name]) for name, value in first.items()
    )


def negatives_of(moment: Moment) -> torch.Tensor:
    negatives = next(iter(vars(moment.require(Saccade, "t")).values()))
    assert isinstance(negatives, torch.Tensor)
    return negatives


def sets(digits: ImageSet) -> list[ImageSet]:
    return [digits, NATURAL]


@pytest.mark.parametrize("default", ["float64", "float16", "autocast", "device"])
def test_defaults_of_torch_change_no_stream(digits: ImageSet, default: str) -> None:
    """Neither the default type, nor the default device, nor autocast around a run."""
    common: dict[str, Any] = {"observers": 6, "moments": 4}
    expected = [s[3] for images in sets(digits) for s in streams(images, **common)]
    mask = hybrid_mask(50, 32, 32, generator())
    # What is kept from one call to the next is made anew.
    for kept in (geometry._middles, colour._constant, augmentation._finish):
        kept.cache_clear()
    try:
        if default == "device":
            torch.set_default_device("meta")
        elif default != "autocast":
            torch.set_default_dtype(getattr(torch, default))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=default == "autocast"):
            found = [s[3] for images in sets(digits) for s in streams(images, **common)]
            again = hybrid_mask(50, 32, 32, generator())
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert all(equal(a, b) for a, b in zip(expected, found, strict=True))
    assert torch.equal(mask, again)


def test_default_types_of_torch_change_no_image_set(digits: ImageSet) -> None:
    expected = NATURAL.greyed().resized(5, 7)
    torch.set_default_dtype(torch.float64)
    try:
        found = NATURAL.greyed().resized(5, 7)
        some = digits.limited(20, 10, generator(1))
        colour = ImageSet.from_arrays(NATURAL.train, np.arange(24) % 3)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found.train, expected.train)
    assert (found.mean, found.std) == (expected.mean, expected.std)
    assert torch.equal(some.train, digits.limited(20, 10, generator(1)).train)
    assert torch.equal(colour.test, ImageSet.from_arrays(NATURAL.train, np.arange(24) % 3).test)


def test_a_stream_is_the_same_whenever_it_is_used(digits: ImageSet) -> None:
    for stream in streams(digits, observers=6, moments=4):
        first, later = list(stream), stream[2]
        again = list(stream)
        assert all(equal(a, b) for a, b in zip(first, again, strict=True))
        assert equal(first[2], later)
        assert equal(stream.moment(2), later)


def test_numbers_of_numpy_and_torch_are_numbers(digits: ImageSet) -> None:
    """Of observers, moments, seeds, negatives, sizes; and moments are found by them."""
    views = Views(np.int64(16))
    one = ViewPairs(
        digits.train.numpy(),
        digits.train_labels.numpy().astype(np.int32),
        views,
        observers=np.int32(4),
        moments=np.uint8(3),
        seed=np.int64(5),
        negatives=torch.tensor(2),
    )
    other = ViewPairs(digits.train, digits.train_labels, Views(16), observers=4, moments=3, seed=5, negatives=2)
    assert equal(one[np.int64(2)], other[2])
    assert json.dumps(one.describe()) == json.dumps(other.describe())
    for labels in (digits.train_labels.to(torch.uint8), digits.train_labels.tolist(), digits.train_labels.double()):
        moment = ViewPairs(digits.train, labels, views, observers=4)[0]
        assert moment.require(Teaching, "t").labels.dtype == torch.int64
    common: dict[str, Any] = {"views": views}
    for options in ({"observers": True}, {"moments": "4"}, {"seed": 1.5}, {"observers": np.float64(4)}, {"negatives": 0}):
        with pytest.raises(OptionError, match="expected a whole number"):
            ViewPairs(digits.train, None, **(common | options))
    for number in (1.5, "a", None):
        with pytest.raises(OptionError, match="moment: expected a whole number"):
            other[number]  # type: ignore[index]


def test_a_set_brings_its_labels_and_the_views_that_suit(digits: ImageSet) -> None:
    common: dict[str, Any] = {"observers": 5, "moments": 3, "seed": 2}
    long = ViewPairs(digits.train, digits.train_labels, default_views(digits), **common)
    assert equal(ViewPairs(digits, **common)[1], long[1])
    wake = WakeSleep(digits, **common)
    assert equal(wake[1], WakeSleep(digits.train, digits.train_labels, default_views(digits), 10, **common)[1])
    with pytest.raises(OptionError, match="an ImageSet has labels of its own"):
        ViewPairs(digits, digits.train_labels, **common)
    with pytest.raises(OptionError, match="there are no views"):
        ViewPairs(digits.train, digits.train_labels, **common)


def test_one_observer_is_told_from_nobody(digits: ImageSet) -> None:
    """Its negative would be the anchor itself."""
    for sampling in ("next", "random"):
        with pytest.raises(StimulusError, match="1 observer leaves no other object to be compared with: show at least 2"):
            ViewPairs(digits, observers=1, sampling=sampling)
    for stream in (WakeSleep, DoubledInput):
        options = {"negatives": "hybrids"} if stream is WakeSleep else {}
        with pytest.raises(StimulusError, match="two observers, got 1"):
            stream(digits, observers=1, **options)
    assert WakeSleep(digits, observers=1)[0].observers == 1, "a wrong label needs nobody else"


@pytest.mark.parametrize("observers", [2, 3, 7])
def test_negatives_never_show_the_own_object(digits: ImageSet, observers: int) -> None:
    own = torch.arange(2 * observers) % observers
    common: dict[str, Any] = {"observers": observers, "moments": 20}
    most = ViewPairs(digits, negatives=observers - 1, **common)
    assert bool((negatives_of(most[0]) % observers != own).all())
    with pytest.raises(OptionError, match=f"expected 1 to {observers - 1}, fewer than the {observers} observers"):
        ViewPairs(digits, negatives=observers, **common)
    drawn = torch.cat([negatives_of(moment) for moment in ViewPairs(digits, negatives=30, sampling="random", **common)])
    assert bool((drawn % observers != own).all())
    counts = torch.bincount(drawn[:, 0], minlength=2 * observers)
    assert counts[0] == counts[observers] == 0
    others = counts[counts > 0].double()
    assert len(others) == 2 * observers - 2, "all rows of others"
    assert float((others / others.mean() - 1).abs().max()) < 0.5, "each as often"


def test_a_sequence_begins_with_a_saccade(digits: ImageSet) -> None:
    """What was seen in the run before was another object: no fixation pairs the two."""
    for staggered in (False, True):
        first = FixationSequence(digits, observers=4, staggered=staggered, fixations_per_object=3)[0]
        jumped = first.require(Saccade, "t").observers
        assert jumped is not None
        assert bool(jumped.all())
    assert FixationSequence(digits, observers=4, fixations_per_object=3)[1].get(Saccade) is None


def test_observers_of_a_sequence_have_another_object_to_look_at(digits: ImageSet) -> None:
    with pytest.raises(StimulusError, match="1 observers need 2 images"):
        FixationSequence(digits.train[:1], None, Views(16))
    for moment in FixationSequence(
        digits.train[:8], torch.arange(8), Views(16), observers=4, fixations_per_object=1, moments=2
    ):
        labels = moment.require(Teaching, "t").labels
    first = FixationSequence(digits.train[:8], torch.arange(8), Views(16), observers=4, fixations_per_object=1)[0]
    assert not bool((first.require(Teaching, "t").labels == labels).any())


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (30, 40)])
def test_images_and_views_need_not_be_square(shape: tuple[int, int]) -> None:
    """Crops, flips, colours, blur, rotations, still views: of wide and high images, enlarged and reduced."""
    high, wide = 12, 30
    pixels = torch.randint(0, 256, (10, 3, high, wide), dtype=torch.uint8, generator=generator(1))
    natural = default_views(image_set(pixels, 0.5, 0.25))
    assert natural.shape == (12, 30)
    assert natural(pixels, generator()).shape == (10, 3, 12, 30)
    for options in (
        {},
        {"rotation": 20.0, "zoom": 0.1},
        {"crop_scale": (0.3, 1.0), "flip": 0.5, "blur": 1.0, "hue": 0.2, "jitter": 1.0},
    ):
        views = Views(shape, **options)  # type: ignore[arg-type]
        assert views(pixels, generator(), times=2).shape == (20, 3, *shape)
        assert views.still(pixels).shape == (10, 3, *shape)
    # A picture of places is seen in its own proportions: left is left, the top is the top.
    y, x = torch.linspace(0, 1, high)[:, None].expand(high, wide), torch.linspace(0, 1, wide).expand(high, wide)
    places = torch.stack([y, x]).expand(4, 2, high, wide)
    for options in ({"crop_scale": (1.0, 1.0), "flip": 1e-9}, {"rotation": 1e-6}, {}):
        seen = Views(shape, **options)(places, generator())  # type: ignore[arg-type]
        expected = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, n) for n in shape), indexing="ij"))
        # At its border, a picture that is turned is mixed with the black around it.
        inner = (..., slice(1, -1), slice(1, -1)) if "rotation" in options else ...
        assert float((seen - expected)[inner].abs().max()) < 0.06
    mirrored = Views(shape, flip=1.0)(places, generator())
    assert float((mirrored[:, 1] + expected[1] - 1).abs().max()) < 0.06
    with pytest.raises(OptionError, match="one number of pixels, or height and width"):
        Views((1, 2, 3))  # type: ignore[arg-type]
    assert Views((9, 9)) == Views(9)


def test_all_streams_show_images_that_are_not_square() -> None:
    pixels = torch.randint(0, 256, (20, 1, 6, 14), dtype=torch.uint8, generator=generator(1))
    images = ImageSet.from_arrays(pixels, np.arange(20) % 5)
    for stream in streams(images, observers=4):
        halves = 2 if isinstance(stream, DoubledInput) else 1
        assert stream[0].require(Fixation, "t").stimulus.shape[1:] == (halves, 6, 14)


@pytest.mark.parametrize("shape", [(4, 200), (200, 1), (1, 1)])
def test_views_suit_flat_and_tiny_images(shape: tuple[int, int]) -> None:
    images = image_set(torch.randint(0, 256, (6, 3, *shape), dtype=torch.uint8, generator=generator()), 0.5, 0.25)
    stimulus = ViewPairs(images, observers=3)[0].require(Fixation, "t").stimulus
    assert stimulus.shape == (6, 3, *shape)
    assert bool(stimulus.isfinite().all())


def test_views_refuse_pixels_beyond_1_and_types_that_are_none_of_pictures() -> None:
    views = Views(8)
    with pytest.raises(StimulusError, match=r"some are as large as 200: divide 0\.\.255 by 255"):
        views(torch.full((2, 1, 8, 8), 200.0), generator())
    with pytest.raises(StimulusError, match="some are not finite numbers"):
        views.still(torch.full((2, 1, 8, 8), float("nan")))
    for kind in (torch.int64, torch.bool, torch.int16):
        with pytest.raises(StimulusError, match=r"got (int64|bool|int16): convert them to torch\.uint8"):
            views(torch.ones(2, 1, 8, 8).to(kind), generator())


def test_streams_describe_themselves_for_the_manifest(digits: ImageSet) -> None:
    for stream in streams(digits, observers=6, moments=4, seed=3):
        found = json.loads(json.dumps(stream.describe()))
        assert found["stream"] == type(stream).__name__
        assert found["images"] == {
            "name": "digits",
            "digest": digits.digest,
            "count": 1438,
            "shape": [1, 16, 16],
            "labelled": True,
        }
        assert found["views"]["rotation"] == 25
        assert found["options"].items() >= {"observers": 6, "moments": 4, "seed": 3, "fixation_duration": 0.25}.items()
    own = ViewPairs(digits, observers=6, negatives=3, sampling="random", transitions="either").describe()["options"]
    assert (own["negatives"], own["sampling"], own["transitions"]) == (3, "random", "either")
    loose = ViewPairs(digits.train, None, Views(16), observers=6).describe()["images"]
    assert (loose["name"], loose["labelled"]) == (None, False)
    assert loose["digest"] != ViewPairs(digits.test, None, Views(16), observers=6).describe()["images"]["digest"]


def test_a_dataloader_is_a_stream(digits: ImageSet) -> None:
    data = TensorDataset(digits.train[:40].float() / 255, digits.train_labels[:40].to(torch.int32))
    loader = DataLoader(data, batch_size=10)
    stream = stream_of_batches(loader, default_views(digits), epochs=2)
    assert len(stream) == 8  # type: ignore[arg-type]
    moments = list(stream)
    assert len(moments) == 8
    assert moments[0].observers == 10
    assert torch.equal(moments[1].require(Teaching, "t").labels, digits.train_labels[10:20].repeat(2))
    assert negatives_of(moments[0]).shape == (1, 20)
    assert all(equal(a, b) for a, b in zip(moments, stream, strict=True)), "the same again, as the loader does not shuffle"
    assert json.dumps(stream.describe())
    still = list(stream_of_batches(loader))[1]
    assert torch.equal(still.require(Fixation, "t").stimulus, digits.train[10:20].float() / 255)
    assert Saccade in still, "no pair with the batch before"
    assert still.require(Fixation, "t").partner is None
    before = Simulation(mlp((1, 16, 16), [12], 10), "bp", seed=1, device="cpu").run(stream_of_batches(loader))
    assert before.observers_seen == 40


def test_batches_may_hold_two_views_numpy_arrays_or_images_alone(digits: ImageSet) -> None:
    one, other = digits.train[:6].numpy(), digits.train[6:12].numpy()
    moment = next(iter(stream_of_batches([([one, other], [0, 1, 2, 3, 4, 5])], negatives=2)))
    fixation = moment.require(Fixation, "t")
    assert torch.equal(fixation.stimulus, digits.train[:12].float() / 255)
    assert fixation.partner is not None
    assert fixation.partner.tolist() == [*range(6, 12), *range(6)]
    assert negatives_of(moment).shape == (2, 12)
    alone = next(iter(stream_of_batches([one], Views(16))))
    assert alone.get(Teaching) is None
    assert alone.require(Fixation, "t").stimulus.shape == (12, 1, 16, 16)


def test_batches_that_cannot_be_shown_are_named(digits: ImageSet) -> None:
    one, labels = digits.train[:6], digits.train_labels[:6]
    broken = one.float() / 255
    broken[4, 0, 2, 2] = float("nan")
    views = Views(16)
    for batches, options, message in (
        ([(one, labels), (one[:1], labels[:1])], {"views": views}, r"^batch 1 .*drop_last=True.*1 observer leaves no other"),
        ([(one, labels)], {"views": views, "negatives": 6}, "^batch 0 .*expected 1 to 5, fewer than the 6 observers"),
        ([(one, labels), (broken, labels)], {}, "^batch 1: image 4 has NaN or infinite pixels"),
        ([(broken, labels)], {"views": views}, "^batch 0: image 4 has NaN or infinite pixels"),
        ([(one.float(), labels)], {"views": views}, r"^batch 0: .*divide 0\.\.255 by 255"),
        ([(one, labels[:3])], {}, r"^batch 0: expected one label per image \(6\), got 3"),
        ([(one, ["cat"] * 6)], {}, "^batch 0: expected numbers of classes, got names"),
        ([([one, one[:3]], labels)], {}, "^batch 0: expected images, or two views"),
        ([([one, one], labels)], {"views": views}, "^batch 0: two views of every image, and views of them"),
        ([{"image": one}], {}, "^batch 0: expected an array"),
    ):
        with pytest.raises((StimulusError, OptionError), match=message):
            list(stream_of_batches(batches, **options))  # type: ignore[arg-type]
    for wrong in (3, "abc", one):
        with pytest.raises(OptionError, match="expected an iterable of batches"):
            stream_of_batches(wrong)  # type: ignore[arg-type]


def test_an_iterator_of_batches_is_used_once(digits: ImageSet) -> None:
    def batches() -> Iterator[torch.Tensor]:
        yield digits.train[:4]

    stream = stream_of_batches(batches(), Views(16))
    assert not hasattr(stream, "__len__")
    assert len(list(stream)) == 1
    with pytest.raises(StimulusError, match="the iterator has been used up"):
        list(stream)
    with pytest.raises(OptionError, match="an iterator can be gone through once"):
        stream_of_batches(batches(), Views(16), epochs=2)


def test_hybrids_of_very_small_images_are_never_the_image_itself() -> None:
    """There the mask of large regions is often the whole image."""
    pixels = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 1, 3, 3) * 6
    hidden = hybrid_mask(400, 3, 3, generator()).flatten(1)
    assert int(hidden.all(1).sum()) > 20
    for moment in WakeSleep(pixels, None, Views(3), negatives="hybrids", observers=40, moments=5):
        awake, asleep = moment.require(Fixation, "t").stimulus.split(40)
        assert bool((awake != asleep).flatten(1).any(1).all())


def test_parameters_of_views_may_be_numbers_of_numpy_and_lists(digits: ImageSet) -> None:
    given: Any = {
        "crop_scale": [0.5, 1],
        "mean": np.array([0.5], np.float32),
        "std": [np.float32(0.25)],
        "flip": np.float32(0.5),
    }
    views = Views(16, blur=np.float64(0.5), blur_kernel=np.int64(3), **given)
    same = Views(16, crop_scale=(0.5, 1.0), mean=(0.5,), std=(0.25,), flip=0.5, blur=0.5)
    assert views == same
    assert json.dumps(views.describe()) == json.dumps(same.describe())
    assert torch.equal(views(digits.train[:9].numpy(), generator()), same(digits.train[:9], generator()))
    assert torch.equal(Views(16, crop_scale=[1.0, 1.0])(digits.train[:9], generator()), digits.train[:9] / 255)  # type: ignore[arg-type]
    wrongs: Any = (
        {"flip": "0.5"},
        {"mean": "a"},
        {"mean": (float("nan"),)},
        {"std": ()},
        {"std": (float("inf"),)},
        {"rotation": None},
    )
    for wrong in wrongs:
        with pytest.raises(OptionError, match="Views"):
            Views(16, **wrong)


def test_wake_and_sleep_have_signs_of_float32_whatever_the_observers(digits: ImageSet) -> None:
    for stream in (WakeSleep(digits, observers=3), DoubledInput(digits, observers=3)):
        sign = stream[0].require(Phase, "t").sign
        assert sign.tolist() == [1.0] * 3 + [-1.0] * 3
        assert sign.dtype == torch.float32
