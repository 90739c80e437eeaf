"""Streams of moments: what is shown, in which order, to how many observers."""

from typing import Any

import pytest
import torch
from brian2 import ms, mV
from conftest import drawn, generator, image_set, same

from neurossl import FeedforwardPathway, InputPopulation, Network, Population, make_rule, mlp
from neurossl.errors import NetworkError, OptionError, StimulusError
from neurossl.events import Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
from neurossl.stimuli import (
    DoubledInput,
    FixationSequence,
    ImageSet,
    ViewPairs,
    Views,
    WakeSleep,
    default_views,
    doubled,
    hybrid_mask,
    write_label,
)


def equal(one: Moment, other: Moment) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        set(vars(a)) == set(vars(b)) and all(same(v, vars(b)[k]) for k, v in vars(a).items() if v is not None)
        for a, b in pairs
    )


def test_streams_are_functions_of_seed_and_number(digits: ImageSet) -> None:
    common: dict[str, Any] = {"observers": 32, "moments": 100}
    views = default_views(digits)
    streams = [
        lambda seed: ViewPairs(digits.train, digits.train_labels, views, seed=seed, sampling="random", **common),
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


def negatives_of(moment: Moment) -> torch.Tensor:
    negatives = next(iter(vars(moment.require(Saccade, "t")).values()))
    assert isinstance(negatives, torch.Tensor)
    return negatives


def test_pairs_name_partners_and_negatives_as_published(digits: ImageSet) -> None:
    stream = ViewPairs(digits.train, torch.arange(1438), Views(16), observers=4, moments=3, negatives=2)
    moment = stream[0]
    fixation = moment.require(Fixation, "t")
    labels = moment.require(Teaching, "t").labels
    assert fixation.partner is not None
    assert torch.equal(labels[fixation.partner], labels)
    assert torch.equal(fixation.stimulus[fixation.partner], fixation.stimulus)
    # Target rows are [view 2; view 1]; the negative of row r is target row r + 1, which is stimulus row (r + 1 + n) mod 2n.
    assert negatives_of(moment).tolist() == [[(r + k + 4) % 8 for r in range(8)] for k in (1, 2)]
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


def test_doubled_input_holds_two_images(digits: ImageSet) -> None:
    stimulus = (
        DoubledInput(digits.train, digits.train_labels, Views(16), observers=20, moments=1)[0]
        .require(Fixation, "t")
        .stimulus
    )
    assert stimulus.shape == (40, 2, 16, 16)
    awake, asleep = stimulus.split(20)
    assert torch.equal(awake[:, :1], awake[:, 1:])
    assert torch.equal(asleep[:, :1], awake[:, :1])
    away = next(k for k in range(1, 20) if torch.equal(asleep[:, 1:], awake[:, 1:].roll(k, 0)))
    assert 1 <= away < 20


def test_what_tells_awake_from_asleep_is_not_divided_out(digits: ImageSet) -> None:
    """Goodness of an untrained population, awake and asleep: the area under the curve of telling them apart."""
    moment = DoubledInput(digits, observers=128, moments=1, seed=3)[0]
    rule = make_rule("scff")
    circuit = drawn(mlp(digits.shape, [256], normalisation="doubled"), dtype="float32")
    activity = circuit.sweep(moment.require(Fixation, "t").stimulus.flatten(1))
    goodness = activity.drive("V1").clamp(min=0).square().mean(1)
    awake, asleep = goodness.split(128)
    assert float((awake[:, None] > asleep).float().mean()) > 0.85
    seen = activity.presynaptic["retina->V1"].square().mean(1).sqrt()
    assert torch.allclose(seen[:128], torch.full((128,), 2.0), atol=1e-4)
    assert 1.5 < float(seen[128:].mean()) < 1.8
    assert rule.normalisation == "doubled"
    with pytest.raises(NetworkError, match=r"two images side by side: show it DoubledInput, or single images as doubled"):
        circuit.sweep(digits.test[:3].float())
    assert circuit.sweep(doubled(digits.test[:3].float())).rows == 3
    with pytest.raises(NetworkError, match=r"^pathway 'retina->V1': 'retina' has no two halves: 7 channels or units"):
        Network(
            InputPopulation("retina", 7), Population("V1", 3), FeedforwardPathway("retina", "V1", normalisation="doubled")
        )


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
    changed = torch.ones_like(jumps)
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
        ViewPairs(images, labels, views, observers=2, sampling="far")
    with pytest.raises(OptionError, match="'both' or 'either'"):
        ViewPairs(images, labels, views, observers=2, transitions="none")
    with pytest.raises(OptionError, match="'labels' or 'hybrids'"):
        WakeSleep(images, labels, views, 10, observers=2, negatives="noise")
    with pytest.raises(OptionError, match=r"observers: expected a whole number >= 1, got 2\.5"):
        ViewPairs(images, labels, views, observers=2.5)
    with pytest.raises(OptionError, match="moments: expected a whole number >= 1, got 0"):
        ViewPairs(images, labels, views, observers=2, moments=0)
    with pytest.raises(OptionError, match="negatives: expected 1 to 1, fewer than the 2 observers"):
        ViewPairs(images, labels, views, observers=2, negatives=2)
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


def test_views_are_computed_where_the_images_are(digits: ImageSet) -> None:
    """Draws stay on the CPU; nothing of the pixels is. The meta device refuses a mixture, as a GPU does."""
    far = digits.train.to("meta")
    common: dict[str, Any] = {"observers": 8, "moments": 2}
    natural = default_views(image_set(torch.zeros(1, 3, 32, 32).byte(), 0.5, 0.25))
    assert natural(torch.zeros(8, 3, 32, 32, dtype=torch.uint8, device="meta"), generator()).device.type == "meta"
    for stream in (
        ViewPairs(far, digits.train_labels, default_views(digits), sampling="random", **common),
        WakeSleep(far, digits.train_labels, default_views(digits), 10, **common),
        WakeSleep(far, digits.train_labels, default_views(digits), 10, negatives="hybrids", **common),
        DoubledInput(far, digits.train_labels, default_views(digits), **common),
        FixationSequence(far, digits.train_labels, default_views(digits), staggered=True, **common),
    ):
        assert stream[1].require(Fixation, "t").stimulus.device.type == "meta"
