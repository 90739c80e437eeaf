"""Image sets of arrays, data sets and streams by names of one's own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_folder

from neurossl.errors import NeurosslError, OptionError, StimulusError
from neurossl.events import Fixation, Teaching
from neurossl.stimuli import (
    DatasetRequest,
    ImageSet,
    ViewPairs,
    Views,
    dataset_names,
    default_views,
    load_images,
    make_stream,
    register_dataset,
    register_stream,
    stream_names,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 12), np.uint8)
LABELS = np.arange(20) % 4
make: Any = ImageSet.from_arrays


def test_arrays_of_numpy_and_torch_make_the_same_set() -> None:
    one = make(PIXELS, LABELS, PIXELS[:4], LABELS[:4])
    for train, labels in (
        (torch.from_numpy(PIXELS), torch.from_numpy(LABELS)),
        (PIXELS.transpose(0, 2, 3, 1), LABELS.astype(np.uint8)),
        (list(PIXELS), LABELS.tolist()),
        (np.asfortranarray(PIXELS), LABELS.astype(">i2")),
        (PIXELS[::-1][::-1], torch.from_numpy(LABELS).to(torch.int32)),
        (PIXELS, LABELS.astype(float)),
    ):
        other = make(train, labels, PIXELS[:4], LABELS[:4])
        assert torch.equal(other.train, one.train)
        assert torch.equal(other.train_labels, one.train_labels)
        assert other.train_labels.dtype == torch.int64
        assert other.digest == one.digest
    assert one.shape == (3, 8, 12)
    assert one.classes == ("0", "1", "2", "3")
    assert repr(one) == "ImageSet('arrays': 20 + 4 images 3x8x12, 4 classes)"
    assert one.mean == pytest.approx((PIXELS / 255).mean((0, 2, 3)), abs=1e-6)


def test_axes_are_told_apart_by_their_lengths() -> None:
    zeros = np.zeros
    for shape, expected in (
        ((4, 8, 9), (1, 8, 9)),
        ((4, 1, 8, 9), (1, 8, 9)),
        ((4, 3, 8, 9), (3, 8, 9)),
        ((4, 8, 9, 1), (1, 8, 9)),
        ((4, 8, 9, 3), (3, 8, 9)),
        ((4, 3, 8, 3), (3, 8, 3)),
        ((4, 2, 8, 9), (2, 8, 9)),
    ):
        assert make(zeros(shape, np.uint8), [0, 0, 1, 1]).shape == expected
    for shape in ((4, 8, 9, 4), (4, 8, 9, 2)):
        with pytest.raises(StimulusError, match="look like transparency"):
            make(zeros(shape, np.uint8), [0, 0, 1, 1])
    for shape in ((4,), (4, 8), (4, 0, 8, 8), (1, 2, 3, 4, 5)):
        with pytest.raises(StimulusError, match="expected shape"):
            make(zeros(shape, np.uint8), [0, 0, 1, 1])


def test_arrays_without_a_test_set_are_split_by_a_seed() -> None:
    one, again = make(PIXELS, LABELS), make(PIXELS, LABELS)
    assert torch.bincount(one.train_labels).tolist() == [4] * 4
    assert torch.bincount(one.test_labels).tolist() == [1] * 4
    assert torch.equal(one.test, again.test)
    assert len({p.numpy().tobytes() for p in (*one.train, *one.test)}) == 20
    assert "20% of every class, drawn at random with seed 0" in one.source
    with pytest.raises(StimulusError, match="class 1 has one image, expected at least 2"):
        make(PIXELS[:3], [0, 0, 1])


def test_labels_may_be_names_of_classes() -> None:
    names = np.array(["emu", "cat", "dog", "cat"] * 5)
    images = make(PIXELS, names, PIXELS[:2], ["dog", "emu"])
    assert images.classes == ("cat", "dog", "emu")
    assert images.train_labels[:4].tolist() == [2, 0, 1, 0]
    assert images.test_labels.tolist() == [1, 2]
    assert make(PIXELS, names.tolist(), classes=["emu", "dog", "cat"]).classes == ("emu", "dog", "cat")
    assert make(PIXELS, names.astype(object)).classes == ("cat", "dog", "emu")
    assert make(PIXELS, names.astype("S3")).classes == ("cat", "dog", "emu")
    assert make(PIXELS, LABELS, classes=list("abcde")).classes == tuple("abcde")
    for labels, classes, message in (
        (names, ["cat", "dog"], "there is no class 'emu', expected one of cat, dog"),
        (LABELS, ["a", "b"], "expected 0 to 1, one per class, got 3"),
        (LABELS, ["a", "a", "b", "c"], "names of classes must differ"),
        (["cat", "a\nb"] * 10, None, r"'a\\nb' is no name of a class: expected printable text"),
        (names[:3], None, r"one label per image \(20\), got 3"),
        (LABELS[:, None], None, r"one label per image \(20\), got shape \(20, 1\)"),
        (LABELS - 1, None, "expected integers from 0, got -1 for image 0"),
        (LABELS + 0.5, None, "expected integers from 0, got 0.5 for image 0"),
        (LABELS + 1000, None, "up to 1003 in 20 images: expected classes numbered from 0, or give classes"),
        (np.full(20, np.nan), None, "expected integers from 0, got nan"),
        (None, None, "train has no labels: give train_labels, or give the images as unlabelled"),
    ):
        with pytest.raises(StimulusError, match=message):
            make(PIXELS, labels, classes=classes)


def test_streams_refuse_names_as_labels_and_say_where_they_are_taken() -> None:
    with pytest.raises(StimulusError, match=r"got names: ImageSet\.from_arrays takes names and numbers the classes"):
        ViewPairs(PIXELS, ["cat", "dog"] * 10, Views((8, 12)), observers=2)


def test_images_without_labels_make_a_set_that_streams_show() -> None:
    images = make(unlabelled=PIXELS, name="mine")
    assert (len(images.train), len(images.test), images.classes) == (0, 0, ())
    assert images.shape == (3, 8, 12)
    assert images.mean[0] > 0
    moment = ViewPairs(images, observers=5)[0]
    assert moment.get(Teaching) is None
    assert moment.require(Fixation, "t").stimulus.shape == (10, 3, 8, 12)
    assert images.resized(4, 4).unlabelled.shape == (20, 3, 4, 4)
    assert images.greyed().shape == (1, 8, 12)
    with_labels = make(PIXELS[:8], LABELS[:8], unlabelled=PIXELS)
    assert len(with_labels.unlabelled) == 20
    for given, message in (({}, "there are no images"), ({"unlabelled": PIXELS, "test": PIXELS}, "no training images")):
        with pytest.raises(StimulusError, match=message):
            make(**given)


def test_floats_from_0_to_1_stay_what_they_are() -> None:
    floats = PIXELS / 255
    images = make(floats, LABELS, floats[:2], LABELS[:2])
    assert images.train.dtype == torch.float32
    assert images.mean == pytest.approx(make(PIXELS, LABELS, PIXELS[:2], LABELS[:2]).mean, abs=2e-6)
    assert images.std == pytest.approx(make(PIXELS, LABELS, PIXELS[:2], LABELS[:2]).std, abs=2e-6)
    views = default_views(images)
    ours, bytes_ = (ViewPairs(p, None, views, observers=4)[1].require(Fixation, "t").stimulus for p in (floats, PIXELS))
    assert torch.allclose(ours, bytes_, atol=1e-5)
    assert images.resized(4, 4).train.dtype == torch.float32


def test_pixels_that_are_neither_8_bits_nor_from_0_to_1_are_refused_with_a_remedy() -> None:
    broken = PIXELS / 255
    broken[7, 2, 3, 4] = np.nan
    for pixels, message in (
        (PIXELS.astype(np.float32), r"image 0 has pixels from 0 to 255: divide 0\.\.255 by 255"),
        (PIXELS / 127.5 - 1, "image 0 has pixels from -1 to 1: .*leave normalisation to the views"),
        (PIXELS.astype(np.int64), "got int64: convert them to uint8"),
        (PIXELS > 100, "got bool: convert them to uint8"),
        (broken, "image 7 has NaN or infinite pixels"),
        (np.where(np.isnan(broken), np.inf, broken), "image 7 has NaN or infinite pixels"),
        (PIXELS.astype(complex), "expected an array of numbers"),
        ([PIXELS[0], PIXELS[0, :, :4]], "of one shape for all"),
        ("pictures", "expected an array of numbers"),
    ):
        for what in ("train", "test", "unlabelled"):
            given = {"train": PIXELS, "train_labels": LABELS, "test": PIXELS, "test_labels": LABELS} | {what: pixels}
            with pytest.raises(StimulusError, match=f"^arrays: {what}: .*{message}"):
                make(**given)
        with pytest.raises(StimulusError, match=message):
            ViewPairs(pixels, None, Views((8, 12)), observers=2)


def test_parts_of_several_sizes_are_refused() -> None:
    with pytest.raises(StimulusError, match="test: expected images like those of train, got 3x8x12 and 3x12x8"):
        make(PIXELS, LABELS, PIXELS.swapaxes(2, 3), LABELS)
    with pytest.raises(StimulusError, match="give test and test_labels together"):
        make(PIXELS, LABELS, PIXELS)
    with pytest.raises(StimulusError, match=r"one number per channel \(3\), got 1"):
        make(PIXELS, LABELS, mean=[0.5])


def test_what_is_handed_in_is_never_changed() -> None:
    before = PIXELS.copy()
    read_only = PIXELS.copy()
    read_only.flags.writeable = False
    for pixels in (PIXELS, read_only):
        images = make(pixels, LABELS)
        ViewPairs(images, observers=4)[0]
        images.resized(4, 4)
        images.greyed()
    assert np.array_equal(PIXELS, before)


def test_handwriting_of_ones_own_keeps_its_background_silent() -> None:
    images = make(PIXELS[:, 0], LABELS, mean=[0.0], std=[1.0])
    assert default_views(images).rotation == 25
    assert make(PIXELS[:, 0], LABELS).mean[0] > 0.4


def test_digests_tell_sets_apart() -> None:
    changed = PIXELS.copy()
    changed[-1, -1, -1, -1] ^= 1
    sets = [
        make(PIXELS, LABELS),
        make(changed, LABELS),
        make(PIXELS, (LABELS + 1) % 4),
        make(PIXELS, LABELS, classes=list("abcd")),
        make(PIXELS[:, :1], LABELS),
        make(PIXELS / 255, LABELS),
        make(PIXELS, LABELS, unlabelled=PIXELS),
        make(unlabelled=PIXELS),
    ]
    assert len({images.digest for images in sets}) == len(sets)
    assert sets[0].digest == make(PIXELS.copy(), LABELS, name="another name").digest
    assert sets[0].resized(4, 4).digest != sets[0].digest


def test_a_digest_is_the_same_in_another_process() -> None:
    program = "from neurossl.stimuli import load_images; print(load_images('digits').digest)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == load_images("digits").digest


def test_a_data_set_of_ones_own_is_loaded_by_its_name() -> None:
    asked = []

    @register_dataset("squares")
    def squares(request: DatasetRequest) -> ImageSet:
        asked.append(request)
        return make(PIXELS, LABELS, name="squares")

    assert "squares" in dataset_names()
    assert load_images("squares", size=6, grayscale=True, data_dir="/nowhere", download=True).shape == (1, 6, 6)
    assert asked == [DatasetRequest(Path("/nowhere"), (6, 6), True)]
    with pytest.raises(StimulusError, match="did you mean 'squares'"):
        load_images("square")
    with pytest.raises(OptionError, match="'squares' exists already"):
        register_dataset("squares")(lambda request: squares(request))
    for name in ("digits", "mnist"):
        with pytest.raises(OptionError, match="exists already"):
            register_dataset(name)(squares)
    for wrong in ("folder:x", "folder", "stream", "", "tiny_imagenet", 3):
        with pytest.raises(OptionError, match="expected a name without a colon"):
            register_dataset(wrong)  # type: ignore[arg-type]
    register_dataset("nothing")(lambda request: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(StimulusError, match="expected its function to return an ImageSet, got NoneType"):
        load_images("nothing")


def test_a_stream_of_ones_own_is_made_by_its_name() -> None:
    images = make(PIXELS, LABELS)

    @register_stream("many-negatives")
    def many(images: Any, **options: Any) -> ViewPairs:
        return ViewPairs(images, negatives=3, **options)

    assert {"view-pairs", "wake-sleep", "doubled-input", "fixation-sequence", "many-negatives"} <= set(stream_names())
    stream = make_stream("many-negatives", images, observers=5, moments=2)
    assert (stream.negatives, len(stream)) == (3, 2)
    for name in ("view-pairs", "doubled-input", "fixation-sequence"):
        assert make_stream(name, images, observers=4).observers == 4
    with pytest.raises(OptionError, match="'pairs' does not exist, expected view-pairs"):
        make_stream("pairs", images)
    with pytest.raises(OptionError, match="exists already"):
        register_stream("view-pairs")(many)


def test_paths_are_taken_wherever_text_is(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    one = load_images(folder, cache=tmp_path / "cache")
    assert one.name == "folder:images"
    assert torch.equal(one.train, load_images(f"folder:{folder}").train)
    with pytest.raises(NeurosslError, match="not found"):
        load_images("mnist", data_dir=tmp_path)


def test_sets_and_streams_are_described_in_short(tmp_path: Path) -> None:
    images = load_images(make_folder(tmp_path / "images", {"cat": (8, 8)}))
    for shown in (images, ViewPairs(images, observers=2), load_images(tmp_path / "images" / "train", size=8)):
        assert len(repr(shown)) < 200
    assert json.dumps(ViewPairs(images, observers=2).describe())
