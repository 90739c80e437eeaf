"""Fixed feedback weights are stored with the run, once: what feedback alignment did can be told from its files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MemoryStore, dense_circuit, full_moment, simulated

from analysis import TrajectoryWriter, manifest, open_trajectory, weight_drift
from neurossl import Checkpointer, Simulation, WeightRecorder, Weights, mlp
from neurossl.stimuli import ViewPairs, load_images

FEEDBACK = ["readout=>V1", "readout=>V2"]


def learned(store: Any, rule: str = "dfa", moments: int = 4, plan: Any = None, **options: Any) -> Simulation:
    circuit = dense_circuit(4)
    simulation = simulated(circuit, rule, store=store, recorders=[WeightRecorder(2, **options)])
    if plan is not None:
        simulation.at(0.6)(plan)
    return simulation.run([full_moment(circuit, seed=seed) for seed in range(moments)])


def test_they_are_stored_once_at_the_beginning(store: MemoryStore) -> None:
    simulation = learned(store)
    for name in FEEDBACK:
        stored = store.of("weights", name)
        assert list(stored) == [0]
        assert np.array_equal(stored[0]["weight"], simulation.weights[name].weight.numpy())
        assert store.dims("weights", name)["weight"] == ("post", "pre")
    assert list(store.of("weights", "V1->V2")) == [0, 2, 4]


@pytest.mark.parametrize(("rule", "fixed"), [("fa", 2), ("clapp-fixed", 2), ("clapp++gap", 0), ("bp", 0)])
def test_every_rule_with_fixed_feedback_has_it_stored(rule: str, fixed: int, store: MemoryStore) -> None:
    simulation = learned(store, rule)
    pathways = simulation.network.feedback
    found = [name for kind, name in store.declared if kind == "weights" and name in pathways]
    assert sum(not pathways[name].plastic for name in found) == fixed
    assert set(found) == set(pathways)
    for name in found:
        assert list(store.of("weights", name)) == ([0, 2, 4] if pathways[name].plastic else [0])


def test_some_synapses_of_them_or_none_are_recorded_as_of_others() -> None:
    counted, chosen, named, listed = (MemoryStore() for _ in range(4))
    learned(counted, index=5)
    learned(chosen, index={"readout=>V1": [3, 1], "V1->V2": 4})
    learned(named, pathways=["V1->V2"])
    learned(listed, index=[0, 27])
    assert {v["weight"].shape for *_, v in counted.records} == {(5,)}
    assert chosen.of("weights", "readout=>V1")[0]["weight"].shape == (2,)
    assert chosen.of("weights", "readout=>V2")[0]["weight"].shape == (7, 4)
    assert {name for _, name in named.declared} == {"V1->V2"}
    assert not {name for _, name in listed.declared} & set(FEEDBACK), "a list for all pathways means the plastic ones"


def test_what_was_cut_is_among_the_interventions_and_stored_anew(store: MemoryStore) -> None:
    learned(store, plan=lambda simulation: simulation.lesion("readout=>V1"))
    (entry,) = store.manifest["interventions"]
    assert (entry["what"], entry["pathway"], entry["moment"]) == ("lesion", "readout=>V1", 3)
    cut, other = (store.of("weights", name) for name in FEEDBACK)
    assert list(cut) == [0, 4]
    assert cut[0]["weight"].any()
    assert not cut[4]["weight"].any()
    assert list(other) == [0]


def pairs(moments: int) -> ViewPairs:
    return ViewPairs(load_images("digits"), observers=8, moments=moments)


def run(folder: Path, moments: int, resumed: bool = False, cut: bool = False) -> Simulation:
    options: dict[str, Any] = {"recorders": [WeightRecorder(2)], "checkpoints": Checkpointer(every=2), "device": "cpu"}
    if resumed:
        with TrajectoryWriter.reopen(folder) as store:
            return Simulation.from_checkpoint(folder, store=store, **options).run(pairs(moments))
    with TrajectoryWriter(folder) as store:
        simulation = Simulation(mlp((1, 16, 16), [16, 12], 10), "dfa", store=store, **options)
        if cut:
            simulation.at(1.2)(lambda s: s.lesion("readout=>V2"))
        return simulation.run(pairs(moments))


def test_a_run_that_goes_on_does_not_store_them_again(tmp_path: Path) -> None:
    run(tmp_path, 4)
    run(tmp_path, 8, resumed=True)
    weights = open_trajectory(tmp_path)["weights"]
    assert weights["readout_back_to_V1"]["snapshot"].values.tolist() == [0]
    assert weights["readout_back_to_V1"].attrs["fixed"] == 1
    assert "fixed" not in weights["V1_to_V2"].attrs
    assert weights["V1_to_V2"]["snapshot"].values.tolist() == [0, 2, 4, 6, 8]
    stored = sum(node["weight"].nbytes for node in weights.children.values())
    assert stored <= manifest(tmp_path)["expected_bytes"] * 2


def test_weights_of_any_moment_come_from_the_run_with_them(tmp_path: Path) -> None:
    simulation = run(tmp_path / "whole", 4)
    for event in (0, 2, None):
        found = Weights.from_run(tmp_path / "whole", event=event)
        assert torch.equal(found["readout=>V2"].weight, simulation.weights["readout=>V2"].weight)
    simulation = run(tmp_path / "cut", 4, cut=True)
    assert Weights.from_run(tmp_path / "cut", event=2)["readout=>V2"].weight.any()
    assert not Weights.from_run(tmp_path / "cut")["readout=>V2"].weight.any()
    with pytest.raises(ValueError, match=r"no snapshot of .* at event 3; there are: 0, 2, 4"):
        Weights.from_run(tmp_path / "cut", event=3)


def test_the_distance_of_learned_weights_is_read_as_before(tmp_path: Path) -> None:
    run(tmp_path, 4)
    drift = weight_drift(open_trajectory(tmp_path), ["V1->V2", "V2->readout"])
    assert drift["snapshot"].values.tolist() == [0, 2, 4]
    assert (drift.sel(snapshot=4) > 0).all()
