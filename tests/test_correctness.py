"""Which test stimuli a readout names correctly: its accuracy, stimulus by stimulus."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, dense_circuit, full_moment, simulated
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from analysis import (
    TrajectoryWriter,
    linear_probe,
    linear_probe_correctness,
    nearest_neighbour_correctness,
    nearest_neighbour_probe,
    open_trajectory,
    require_same_stimuli,
)
from neurossl import Checkpointer, Observation, PerformanceRecorder, Simulation, Stimuli, mlp
from neurossl.errors import OptionError
from neurossl.stimuli import ImageSet, ViewPairs
from protocols.harness.probes import Probes


def features(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 90)
    seen = rng.normal(size=(90, 6)) + labels[:, None] * 0.7
    return seen[:60], labels[:60], seen[60:], labels[60:]


@pytest.mark.parametrize("seed", range(4))
def test_an_accuracy_is_exactly_the_mean_of_what_is_named_correctly(seed: int) -> None:
    data = features(seed)
    for accuracy, correctness in (
        (linear_probe, linear_probe_correctness),
        (nearest_neighbour_probe, nearest_neighbour_correctness),
    ):
        correct = correctness(*data)
        assert correct.dtype == bool
        assert correct.shape == data[3].shape
        assert accuracy(*data) == correct.mean()
        assert 0 < correct.mean() < 1
    mean, std = data[0].mean(0), data[0].std(0)
    train, test = ((part - mean) / std for part in (data[0], data[2]))
    linear = LogisticRegression(C=0.1, max_iter=100, tol=1e-3).fit(train, data[1])
    nearest = KNeighborsClassifier(5, algorithm="brute").fit(train.astype(np.float32), data[1])
    assert linear_probe(*data) == pytest.approx(linear.score(test, data[3]), abs=1 / 30)
    assert nearest_neighbour_probe(*data) == nearest.score(test.astype(np.float32), data[3])


def test_views_of_one_image_are_one_cluster(digits: ImageSet) -> None:
    probes = Probes(digits, seed=3, most=(100, 40), repeats=(1, 3))
    stimuli = probes.stimuli
    assert len(stimuli) == 120
    counts = np.unique(stimuli.images, return_counts=True)[1]
    assert (counts == 3).all()
    assert np.array_equal(stimuli.labels, digits.test_labels[torch.from_numpy(stimuli.images)])
    assert torch.equal(probes.shown[1], stimuli.shown)  # type: ignore[arg-type]
    assert len(np.unique(stimuli.ids)) == 120
    assert Probes(digits, 3, (100, 40), repeats=(1, 3)).stimuli.digest == stimuli.digest
    other = Probes(digits, 4, (100, 40), repeats=(1, 3))
    assert other.stimuli.digest == stimuli.digest, (
        "all seeds are tested with the same, so that they can be compared by stimulus"
    )
    assert not torch.equal(other.shown[0], probes.shown[0]), "but learn the readout from views of their own"


def learned(run: Path, digits: ImageSet, moments: int = 4, tested: int = 40, resumed: bool = False) -> Simulation:
    recorder = PerformanceRecorder(2, Probes(digits, 3, (100, tested), repeats=(1, 3)))
    options: dict[str, Any] = {"recorders": [recorder], "checkpoints": Checkpointer(every=2), "device": "cpu"}
    stream = ViewPairs(digits, observers=8, moments=moments)
    if resumed:
        with TrajectoryWriter.reopen(run) as store:
            return Simulation.from_checkpoint(run, store=store, **options).run(stream)
    with TrajectoryWriter(run) as store:
        return Simulation(mlp(digits.shape, [16, 12]), "clapp++gap", store=store, **options).run(stream)


def test_what_a_run_stores_of_every_stimulus_averages_to_what_it_stores_of_all(tmp_path: Path, digits: ImageSet) -> None:
    learned(tmp_path / "run", digits)
    tree = open_trajectory(tmp_path / "run")
    performance = tree["performance"].to_dataset()
    for name, events in (("V1", [0, 4]), ("V2", [0, 4]), ("retina", [0])):
        stored = tree[f"correctness/{name}"].to_dataset()
        assert stored["snapshot"].values.tolist() == events
        for variable, measure in (("probe", "probe_accuracy"), ("nearest_neighbour", "knn_accuracy")):
            assert stored[variable].dtype == np.int8
            assert set(np.unique(stored[variable])) <= {0, 1}
            expected = performance[measure].sel(population=name, event=events).values
            assert np.array_equal(stored[variable].astype(float).mean("stimulus").values, expected)
        assert {"image", "label"} <= set(stored.coords)
    assert require_same_stimuli(tree, "correctness") == Probes(digits, 3, (100, 40), repeats=(1, 3)).stimuli.digest


def test_a_run_that_goes_on_with_other_test_stimuli_is_refused(tmp_path: Path, digits: ImageSet) -> None:
    learned(tmp_path / "run", digits)
    with pytest.raises(OptionError, match=r"the run began with stimuli that have other values, ids"):
        learned(tmp_path / "run", digits, 8, tested=30, resumed=True)
    learned(tmp_path / "run", digits, 8, resumed=True)
    tree = open_trajectory(tmp_path / "run")
    assert tree["correctness/V1"]["snapshot"].values.tolist() == [0, 8], "the end of a run that goes on is none"


class Own:
    """A probe of one's own."""

    def __init__(self, correct: Any, stimuli: Any = None) -> None:
        self.correct, self.stimuli = correct, stimuli

    def __call__(self, now: Observation) -> dict[str, dict[str, Any]]:
        return {"V1": {"probe": self.correct}}


def test_a_probe_of_ones_own_says_which_stimuli_it_names(store: MemoryStore) -> None:
    circuit = dense_circuit(None)
    stimuli = Stimuli(torch.zeros(3, 12), ids=[7, 8, 9])
    for correct in ([1, 0, 1], torch.tensor([True, False, True])):
        mine = MemoryStore()
        recorders = [PerformanceRecorder(1, Own(correct, stimuli))]
        simulated(circuit, "clapp++gap", store=mine, recorders=recorders).run([full_moment(circuit)])
        assert mine.of("correctness", "V1")[1]["probe"].tolist() == [1, 0, 1]
        assert mine.declared["correctness", "V1"][1]["stimulus"][1].tolist() == [7, 8, 9]
    for probe, says in (
        (Own([1, 0, 1]), "but not which they are: give it an attribute stimuli"),
        (Own([1, 0], stimuli), "expected a truth value for each of 3 stimuli, got int64 of shape"),
        (Own([0.5, 0, 1], stimuli), "expected a truth value for each of 3 stimuli"),
    ):
        refused = simulated(circuit, "clapp++gap", store=MemoryStore(), recorders=[PerformanceRecorder(1, probe)])
        with pytest.raises(OptionError, match=says):
            refused.run([full_moment(circuit)])
