"""What the image benchmark decides of the published claims, from made-up accuracies of which the answer is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from neurossl.plasticity import RULES
from neurossl.stimuli import Views
from protocols.images import published
from protocols.images.decisions import (
    PAIRS,
    Asked,
    Decision,
    decide,
    difference_records,
    named_pairs,
    published_order,
    said_of,
    when_decided,
)
from protocols.images.published_readout import BATCH, accuracy_by_epoch, crops
from protocols.images.runs import RANDOM, STAGES
from protocols.images.tasks import METHODS

SEEDS = range(6)
NOISE = np.random.default_rng(0).normal(0, 0.004, (8, len(SEEDS)))


def accuracies(mean: float, row: int) -> dict[int, float]:
    return {seed: mean + NOISE[row, seed] for seed in SEEDS}


def asked(gain: float, row: int, stage: int = STAGES) -> Asked:
    return Asked("cifar10", f"pair {row}", "a", "b", accuracies(0.6 + gain, row), accuracies(0.6, row + 1), stage)


def test_every_claim_has_its_methods_among_those_that_run_by_default() -> None:
    assert {name for _, *pair in PAIRS for name in pair} <= set(METHODS)
    assert set(METHODS) - {RANDOM} <= set(RULES)
    asked = named_pairs(
        "cifar10", {name: name for name in METHODS}, {name: {STAGES: accuracies(0.6, 0)} for name in METHODS}
    )
    assert len(asked) == len(PAIRS) + len(METHODS) - 1


def test_differences_are_paired_by_seed_and_corrected_as_one_family() -> None:
    found = decide([asked(0.05, 0), asked(0.004, 2), asked(0.0, 4)])
    plain = []
    for one in found:
        a, b = ([side[seed] for seed in SEEDS] for side in (one.asked.a, one.asked.b))
        plain.append(stats.ttest_rel(a, b).pvalue)
        assert one.difference.mean == pytest.approx(100 * (np.mean(a) - np.mean(b)))
    assert [one.p for one in found] == pytest.approx(plain)
    order = np.argsort(plain)
    expected = np.maximum.accumulate(np.minimum(1, np.array(plain)[order] * [3, 2, 1]))
    assert [found[n].p_holm for n in order] == pytest.approx(expected)
    assert [one.is_decided for one in found] == [True, False, False]
    assert {one.family for one in found} == {3}


def test_what_is_undecided_says_within_how_many_points_both_are_equal() -> None:
    clear, unclear = decide([asked(0.05, 0), asked(0.001, 2)])
    low, high = (unclear.difference.mean + sign * unclear.difference.half_width for sign in (-1, 1))
    assert low < 0 < high
    assert unclear.text.endswith(f"undecided; equal within {max(-low, high):.1f} points")
    assert f"95 % interval {low:+.1f} to {high:+.1f}, n = 6, p " in unclear.text
    assert clear.text.endswith("after Holm's correction over 2 pairs): decided")


def test_what_is_significant_before_correction_alone_is_undecided() -> None:
    single = decide([asked(0.0053, 0)])
    assert single[0].is_decided
    among = decide([asked(0.0053, 0), *(asked(0.0, row) for row in range(1, 7))])
    assert not among[0].is_decided
    assert among[0].difference.excludes_zero


def test_of_one_seed_and_without_spread_nothing_is_claimed() -> None:
    one = Asked("cifar10", "Spatial dependence", "a", "b", {1: 0.6, 2: 0.7}, {0: 0.9, 1: 0.5})
    same = Asked("cifar10", "Direct feedback", "a", "b", {0: 0.75, 1: 0.5}, {0: 0.5, 1: 0.25})
    apart = Asked("cifar10", "no seed in common", "a", "b", {0: 0.75}, {1: 0.25})
    assert [found.text for found in decide([one, same, apart])] == [
        "Spatial dependence (a minus b): +10.0 points (n = 1: no interval): nothing is claimed",
        "Direct feedback (a minus b): +25.0 points (n = 2, no spread: no test): nothing is claimed",
    ]


def steps(gains: list[float]) -> list[Decision]:
    return decide([asked(gain, 0, stage) for stage, gain in enumerate(gains, 1)])


def test_when_a_difference_is_decided_is_said_with_its_direction() -> None:
    assert when_decided(steps([0, 0.05, 0.05, 0.05, 0.05])) == "decided (+) from 40 % of training on"
    assert when_decided(steps([-0.05, 0, 0, 0, 0.05])) == "decided (-) at 20 % of training, decided (+) at the end"
    assert when_decided(steps([0.05, 0, 0, 0, 0])) == "decided (+) at 20 % of training"
    assert when_decided(steps([0, 0, 0, 0, 0])) == "decided at no time"


def test_a_sentence_says_the_end_on_test_images_and_the_way_on_those_set_aside() -> None:
    (said,) = said_of(decide([asked(0.05, 0)]), steps([0, 0, 0, 0.05, 0.05]))
    assert said.endswith("decided. Over training, on images set aside (5 tests): decided (+) from 80 % of training on.")


def test_pairs_over_training_are_drawn_in_points_with_their_intervals() -> None:
    by_stage = {stage: accuracies(0.5 + stage / 100, 0) for stage in range(1, STAGES + 1)}
    flat = dict.fromkeys(by_stage, accuracies(0.5, 1))
    found = decide(
        named_pairs("cifar10", {"clapp++": "C", "clapp++gap": "G", RANDOM: "R"}, {"C": by_stage, "G": flat, "R": flat})
    )
    records = difference_records(found)
    assert [record["share of training (%)"] for record in records] == [20, 40, 60, 80, 100]
    assert {record["pair"] for record in records} == {"C minus G"}, "not what learning is worth, which has its own curves"
    assert np.allclose(np.diff([record["difference (points) (mean)"] for record in records]), 1)
    assert len(found) == 3 * STAGES


ORDER = {name: name for name in ("clapp++", "clapp++gap", "bp-clapp++", "bp-infonce")}


def test_only_pairs_that_are_separated_here_and_in_the_paper_have_an_order() -> None:
    tested = {"clapp++": accuracies(0.63, 0), "clapp++gap": accuracies(0.57, 1)}
    tested |= {"bp-clapp++": accuracies(0.61, 2), "bp-infonce": accuracies(0.55, 3)}
    (said,) = published_order("cifar10", ORDER, tested)
    assert said.startswith(
        "Of 3 pairs of methods separated here (p < 0.05 after Holm's correction over 6 pairs) and by more"
    )
    assert "than 1.1 points in the published table (second-hand), 2 have the published order" in said
    assert said.endswith("; the other 3 pairs are not separated.")


def test_without_separation_no_order_is_counted() -> None:
    tested = {name: accuracies(0.6, row) for row, name in enumerate(ORDER)}
    (said,) = published_order("cifar10", ORDER, tested)
    assert said.startswith("Of 0 pairs of methods separated here")
    (alone,) = published_order("cifar10", ORDER, {name: {0: 0.6} for name in ORDER})
    assert alone == "Published order: nothing is claimed (n = 1: no interval)."
    assert published_order("photographs", ORDER, tested) == []


def test_published_figures_say_from_where_they_are() -> None:
    assert published.source("folder:CIFAR-10", "clapp++gap") == "second-hand, a re-implementation"
    assert published.source("cifar10", "clapp++") == "second-hand, a note on the paper"
    assert published.source("cifar10", "infonce-local") is None
    assert all(rule in published.LINEAR_PROBE[dataset] for dataset, rule in published.FROM_A_REIMPLEMENTATION)


def test_the_published_readout_is_adam_on_the_cross_entropy_of_one_layer() -> None:
    generator = torch.Generator().manual_seed(0)
    seen, labels = torch.randn(70, 5, generator=generator), torch.randint(3, (70,), generator=generator)
    tested, tested_labels = torch.randn(40, 5, generator=generator), torch.randint(3, (40,), generator=generator)
    calls = []

    def features() -> torch.Tensor:
        calls.append(1)
        return seen + len(calls)

    found = accuracy_by_epoch(features, labels, tested, tested_labels, 4, torch.Generator().manual_seed(1), 1e-2)
    drawn, layer = torch.Generator().manual_seed(1), torch.nn.Linear(5, 3)
    for parameter in (layer.weight, layer.bias):
        torch.nn.init.uniform_(parameter, -(5**-0.5), 5**-0.5, generator=drawn)
    adam, wanted = torch.optim.Adam(layer.parameters(), lr=1e-3, weight_decay=1e-2), []
    for epoch in range(1, 5):
        for rows in torch.randperm(70, generator=drawn).split(BATCH):
            adam.zero_grad()
            F.cross_entropy(layer(seen[rows] + epoch), labels[rows]).backward()
            adam.step()
        wanted.append(float((layer(tested).argmax(1) == tested_labels).double().mean()))
    assert found == pytest.approx(wanted)
    assert len(calls) == 4


def test_its_crops_change_place_and_size_and_no_colours() -> None:
    views = Views(
        8, crop_scale=(0.25, 1.0), flip=0.5, brightness=0.8, jitter=0.8, blur=0.5, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    grey = torch.full((4, 3, 8, 8), 128, dtype=torch.uint8)
    shown = crops(views)(grey, torch.Generator().manual_seed(0))
    assert float(shown.std()) < 1e-5
    assert crops(views).crop_scale == (0.08, 1.0)
