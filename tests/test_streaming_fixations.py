"""One observer, one fixation at a time: signals, scores, what one synapse sees, and what the protocol writes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, Refusal

import analysis
from neurossl import Circuit, Weights
from neurossl.anatomy.architectures import mlp
from neurossl.errors import Interrupted, OptionError
from neurossl.events import Neuromodulation, Saccade
from neurossl.plasticity import Contrastive, Local, Synapses
from neurossl.recorders import Observation
from neurossl.simulation import Simulation
from neurossl.stimuli import FixationSequence, default_views, load_images
from protocols import streaming_fixations
from protocols.streaming.recorders import ScoreRecorder, SynapseRecorder, separation
from protocols.streaming.signalled import SignalledSequence

DIGITS = load_images("digits")


def sequence(signal: str = "true", moments: int = 60, fixations: int = 4) -> SignalledSequence:
    views = default_views(DIGITS)
    fixated = FixationSequence(
        DIGITS.train, DIGITS.train_labels, views, fixations_per_object=fixations, moments=moments, seed=2
    )
    return SignalledSequence(fixated, signal)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream") / "run"
    streaming_fixations.run(str(folder), tiny=True)
    return folder


def test_one_sign_of_gamma_per_moment_and_as_much_of_both_over_time() -> None:
    moments = list(sequence(moments=4 * 50 + 1))
    jumped = [Saccade in m for m in moments]
    assert [i for i, j in enumerate(jumped) if j] == list(range(4, 201, 4))
    gains = [m.get(Neuromodulation) for m in moments]
    fixations = sum(float(g.gain) for g, j in zip(gains, jumped, strict=True) if g and not j)
    saccades = sum(
        float(g.saccade_gain) for g, j in zip(gains, jumped, strict=True) if g and g.saccade_gain is not None and j
    )
    assert saccades == pytest.approx(fixations, rel=0.02)


def test_controls_differ_in_the_signal_alone() -> None:
    true, shuffled, none = (list(sequence(s)) for s in ("true", "shuffled", "none"))
    signals = [[Saccade in m for m in moments] for moments in (true, shuffled, none)]
    assert sum(signals[0]) == sum(signals[1]) == 14
    assert signals[0] != signals[1]
    assert not any(signals[2])
    for a, b, c in zip(true, shuffled, none, strict=True):
        images = [next(e for e in m if hasattr(e, "stimulus")).stimulus for m in (a, b, c)]
        assert torch.equal(images[0], images[1])
        assert torch.equal(images[0], images[2])


@pytest.mark.parametrize("context", ["lateral", "top"])
def test_the_synapse_sees_the_factors_of_its_change(context: str, store: MemoryStore) -> None:
    """Their product, gamma B c rho' x, is what the rule proposes for this very synapse."""
    objective = Contrastive(context=context)
    stream = sequence(moments=24)
    network = mlp(DIGITS.shape, [20, 20, 20])
    recorder = SynapseRecorder(stream, "V1->V2", objective, 13, 24)
    common: dict[str, Any] = {"seed": 1, "device": "cpu", "dtype": "float64", "recorders": [recorder], "store": store}
    Simulation(network, Local(objective), Synapses("sgd", lr=0.01), **common).run(stream)
    found = list(store.of("synapse", "V1->V2").values())
    assert len(found) == 12
    assert [seen["saccade"] for seen in found] == [True, False, False, False] * 3
    assert found[0]["begin"] == pytest.approx(12 * 0.25)
    assert any(seen["proposed_change"] for seen in found)
    for seen in found:
        change = seen["weight_after"] - seen["weight_before"]
        assert change == pytest.approx(0.01 * seen["proposed_change"], abs=1e-12)
        assert seen["gamma"] in ((-3.0, 0.0) if seen["saccade"] else (1.0, 0.0))


def test_scores_are_those_of_the_weights_before_the_update(store: MemoryStore) -> None:
    objective, stream = Contrastive(), sequence(moments=10)
    recorder = ScoreRecorder(stream, objective)
    common: dict[str, Any] = {"seed": 1, "device": "cpu", "recorders": [recorder], "store": store}
    simulation = Simulation(mlp(DIGITS.shape, [20, 20]), Local(objective), Synapses(lr=0.0), **common).run(stream)
    scored = [record for record in store.records if record[0] == "scores"]
    assert len(scored) == 9, "the first fixation has no trace"
    moments = list(stream)
    responses = [simulation.respond(next(e for e in m if hasattr(e, "stimulus")).stimulus) for m in moments]
    weight = simulation.weights["V2=>V2"].weight
    for number, (_, _, _, time, _, values) in enumerate(scored, 1):
        expected = responses[number]["V2"][0] @ weight @ responses[number - 1]["V2"][0]
        assert values["score"][1] == pytest.approx(float(expected), abs=1e-6)
        assert values["saccade"] == (number % 4 == 0)
        assert time == pytest.approx((number + 1) * 0.25)


def test_separation_is_at_chance_without_weights_and_perfect_for_identical_codes() -> None:
    objective = Contrastive()
    network = Local(objective).wire(mlp(16, [16], transfer="linear", bias=False))
    weights, eye = Weights.draw(network), torch.eye(16)
    for name in ("retina->V1", "V1=>V1"):
        weights.set(name, eye)
    circuit = Circuit(network, weights)
    assert separation(circuit, objective, eye, eye) == {"V1": 1.0}
    weights.set("V1=>V1", torch.zeros(16, 16))
    assert separation(circuit, objective, eye, eye) == {"V1": 0.5}


@pytest.mark.slow
def test_the_score_separates_with_the_true_signal_and_not_with_a_shuffled_one() -> None:
    views = default_views(DIGITS)
    generator = torch.Generator().manual_seed(0)
    tested = [views(DIGITS.test, generator) for _ in range(2)]
    found = {}
    for which in ("true", "shuffled"):
        objective, stream = Contrastive(), sequence(which, moments=2500)
        synapses = Synapses("adamw", lr=1e-4, pathways={"*=>*": {"lr": 2e-3}})
        simulation = Simulation(mlp(DIGITS.shape, [64, 64]), Local(objective), synapses, seed=0, device="cpu").run(stream)
        found[which] = separation(simulation.circuit, objective, *tested)
    assert min(found["true"].values()) > 0.65
    assert max(found["shuffled"].values()) < min(found["true"].values()) - 0.05


def test_it_writes_scores_excerpts_and_trajectories(out: Path) -> None:
    results = json.loads((out / "results.json").read_text())
    assert [r["condition"] for r in results["table"]] == [c.label for c in streaming_fixations.CONDITIONS]
    assert all(0 <= r["P(fixation scores above saccade), V1 (mean)"] <= 1 for r in results["table"])
    excerpt = [r for r in results["data"]["synapse"] if r["condition"] == "lateral context" and r["factor"] == "gamma"]
    assert {r["object"] for r in excerpt} == {"object 1", "object 2", "object 3"}
    assert [r["time (s)"] for r in excerpt] == sorted(r["time (s)"] for r in excerpt)
    tree = analysis.open_trajectory(out / "feedback" / "seed-0", verify=True)
    assert float(tree["time"][-1]) == pytest.approx(96 * 0.25)
    assert int(tree["observers_seen"][-1]) == 96
    assert "V4=>V1" in tree["weights"].children
    assert bool(tree["alignment"]["cosine"].notnull().any())
    assert (out / "report.html").is_file()


def test_the_lesion_cuts_the_feedback_half_way(out: Path) -> None:
    cut, intact = (analysis.open_trajectory(out / name / "seed-0") for name in ("feedback-lesion", "feedback"))
    for name in ("V4_back_to_V1", "V4_back_to_V3"):
        weight = cut[f"weights/{name}/weight"]
        half = weight["snapshot"].values <= 48
        assert np.array_equal(weight.values[half], intact[f"weights/{name}/weight"].values[half])
        assert not weight.values[~half].any()
    assert cut["weights/V4_back_to_V4/weight"].values[-1].any(), "the lateral pathway of the top stays"


@pytest.mark.slow
def test_a_life_that_goes_on_after_an_interruption_gives_the_same_table_and_charts_bit_for_bit(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = ScoreRecorder.before

    def end_every_animal_once(self: ScoreRecorder, now: Observation) -> None:
        right(self, now)
        if now.moment == 90:  # which is not seen again after the checkpoint
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ScoreRecorder, "before", end_every_animal_once)
    options: Any = {"tiny": True, "workers": 1, "resume": True}
    for _ in streaming_fixations.CONDITIONS:
        with pytest.raises(Interrupted):
            streaming_fixations.run(str(tmp_path / "run"), **options)
    resumed = streaming_fixations.run(str(tmp_path / "run"), **options)
    assert not list(tmp_path.glob("run/*/*.interrupted-*")), "nothing was begun anew"
    undisturbed = analysis.read_results(out)
    assert resumed.table == undisturbed.table
    assert resumed.data == undisturbed.data
    assert resumed.sentences == undisturbed.sentences


def test_from_one_animal_nothing_is_claimed(out: Path) -> None:
    sentences = analysis.read_results(out).sentences
    assert "Lateral context: n = 1: no interval." in sentences
    assert not any("separates" in sentence for sentence in sentences)
    assert all("n = 1: no interval" in s for s in sentences if "instead of" in s or "changes by" in s)


def test_a_longer_life_is_another_experiment(out: Path) -> None:
    with pytest.raises(OptionError, match="was made with 96 fixations, half of them before the lesion"):
        streaming_fixations.run(str(out), budget=120, tiny=True, resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fixations", "1"], "fixations: expected at least 2"),
        (["--fixation", "0"], "fixation: expected a duration > 0 s"),
        (["--budget", "10"], "budget: expected at least 24 fixations"),
        (["--seeds", "0"], "seeds: expected a whole number"),
        (["--device", "gpu"], "device 'gpu' does not exist"),
    ],
)
def test_bad_options_write_nothing(options: list[str], message: str, refusal: Refusal) -> None:
    assert message in refusal("streaming_fixations", options)
