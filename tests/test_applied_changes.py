"""The change that was applied beside the update that was proposed, and why a comparison is not to be trusted."""

import math
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import pytest
import torch
from conftest import MemoryStore, clones, dense_circuit, full_moment, map_circuit, simulated

from analysis import TrajectoryWriter, manifest, open_trajectory
from neurossl import Neuromodulation, Replicas, Simulation, Synapses, UpdateRecorder, mlp
from neurossl.measures import (
    UNTRUSTED_BECAUSE,
    compare_change,
    cosine,
    untrusted_because,
)
from neurossl.plasticity import Rule
from neurossl.stimuli import ViewPairs, load_images


def learned(store: MemoryStore, synapses: Synapses, rule: str = "dfa", moments: int = 3, **options: Any) -> Simulation:
    circuit = dense_circuit(4)
    recorder = UpdateRecorder(1, reference="bp", keep=True, **options)
    simulation = simulated(circuit, rule, synapses, store=store, recorders=[recorder])
    return simulation.run([full_moment(circuit, seed=seed) for seed in range(moments)])


def test_plain_gradient_ascent_changes_weights_along_the_update(store: MemoryStore) -> None:
    learned(store, Synapses("sgd", lr=0.03))
    for name in ("retina->V1", "V1->V2", "V2->readout"):
        for values in store.of("alignment", name).values():
            assert values["change_norm"] == pytest.approx(0.03 * values["update_norm"], rel=1e-9)
            assert values["change_agreement"] == pytest.approx(1, abs=1e-12)
            assert values["change_cosine"] == pytest.approx(values["cosine"], abs=1e-9)
        for stored in store.of("updates", name).values():
            assert stored["change"] == pytest.approx(0.03 * stored["update"], abs=1e-14)


def test_the_first_step_of_adam_is_the_sign_of_the_update(store: MemoryStore) -> None:
    learned(store, Synapses("adam", lr=1e-3), moments=1)
    stored, measured = store.of("updates", "V1->V2")[1], store.of("alignment", "V1->V2")[1]
    signs = np.sign(stored["update"])
    assert measured["change_norm"] == pytest.approx(1e-3 * math.sqrt(signs.size), rel=1e-3)
    assert measured["change_agreement"] == pytest.approx(cosine(signs, stored["update"]), abs=1e-3)
    assert measured["change_cosine"] == pytest.approx(cosine(signs, stored["reference_update"]), abs=1e-3)
    assert abs(measured["change_cosine"] - measured["cosine"]) > 2e-3, "the cosine of Adam's steps is another one"


def test_bounds_are_part_of_the_change(store: MemoryStore) -> None:
    simulation = learned(store, Synapses("sgd", lr=0.5, bounds=(-0.1, 0.1)), moments=1)
    before = dense_circuit(4).weights["V1->V2"].weight
    stored = store.of("updates", "V1->V2")[1]
    expected = (before.numpy() + 0.5 * stored["update"]).clip(-0.1, 0.1) - before.numpy()
    assert stored["change"] == pytest.approx(expected, abs=1e-14)
    assert store.of("alignment", "V1->V2")[1]["change_agreement"] < 0.99
    assert float(simulation.weights["V1->V2"].weight.abs().max()) <= 0.1


@pytest.mark.parametrize("rule", ["clapp++gap", "dfa", "pc", "ipc", "bp"])
@pytest.mark.parametrize("step", [0, 1e-3])
def test_the_changes_of_all_moments_add_up_to_how_far_the_weights_went(rule: str, step: float) -> None:
    store = MemoryStore()
    circuit = map_circuit(4)
    start = clones(circuit.weights)
    recorder = UpdateRecorder(1, keep=True, step=step)
    simulation = simulated(circuit, rule, Synapses("adamw", lr=1e-2), store=store, recorders=[recorder])
    simulation.run([full_moment(circuit, seed=seed) for seed in range(4)])
    for name in circuit.network.feedforward:
        total = sum(values["change"] for values in store.of("updates", name).values())
        assert total == pytest.approx((simulation.weights[name].weight - start[name][0]).numpy(), abs=1e-12)


def test_where_nobody_learns_nothing_changes_and_no_cosine_is_made_up(store: MemoryStore) -> None:
    circuit = dense_circuit(4)
    simulation = simulated(circuit, "dfa", Synapses("adamw", lr=1e-2), store=store, recorders=[UpdateRecorder(1, "bp")])
    moments = [full_moment(circuit, seed=seed) for seed in range(3)]
    moments[1] = moments[1].with_events(Neuromodulation(torch.zeros(10)))
    simulation.run(moments)
    silent, heard = (store.of("alignment", "V1->V2")[event] for event in (2, 3))
    assert silent["change_norm"] == 0
    assert all(np.isnan(silent[name]) for name in ("change_cosine", "change_agreement"))
    assert silent["untrusted_because"] == 1
    assert not silent["trustworthy"]
    assert heard["change_norm"] > 0
    assert np.isfinite(heard["change_cosine"])


def test_a_lesion_is_no_change_of_learning(store: MemoryStore) -> None:
    circuit = dense_circuit(4)
    simulation = simulated(circuit, "dfa", Synapses(lr=1e-2), store=store, recorders=[UpdateRecorder(1, "bp")])
    simulation.at(0.4)(lambda s: s.lesion("V1->V2"))
    simulation.run([full_moment(circuit, seed=seed) for seed in range(3)])
    norms = [v["change_norm"] for v in store.of("alignment", "retina->V1").values()]
    assert min(norms) > 0
    assert list(store.of("alignment", "V1->V2")) == [1, 2], "what is cut proposes nothing any more"
    assert store.of("alignment", "V1->V2")[2]["change_norm"] < 10 * store.of("alignment", "V1->V2")[1]["change_norm"]


def test_without_a_reference_updates_and_changes_are_stored_alone(store: MemoryStore) -> None:
    class Hebb(Rule):
        """Has no objective, and so no reference."""

        name = "hebb"

        def credit_at(self, site: Any, moment: Any) -> torch.Tensor:
            return site.activity

    circuit = dense_circuit(None)
    recorder = UpdateRecorder(1, keep=True, index=6)
    simulated(circuit, Hebb(), Synapses("sgd", lr=0.5), store=store, recorders=[recorder]).run([full_moment(circuit)])
    stored = store.of("updates", "V1->V2")[1]
    assert set(stored) == {"update", "change"}
    assert stored["change"] == pytest.approx(0.5 * stored["update"], abs=1e-14)
    assert not [kind for kind, *_ in store.records if kind == "alignment"]


def test_replicas_apply_what_they_apply_alone() -> None:
    def made(store: MemoryStore, seed: int) -> Simulation:
        options: dict[str, Any] = {"store": store, "recorders": [UpdateRecorder(1, keep=True)], "device": "cpu"}
        return Simulation(mlp((1, 16, 16), [16, 12]), "clapp++gap", Synapses(lr=1e-2), seed=seed, dtype="float64", **options)

    def pairs(seed: int) -> ViewPairs:
        return ViewPairs(load_images("digits"), observers=8, moments=3, seed=seed)

    stores = [MemoryStore() for _ in range(4)]
    Replicas([made(stores[seed], seed) for seed in (0, 1)]).run([pairs(seed) for seed in (0, 1)])
    for seed in (0, 1):
        made(stores[2 + seed], seed).run(pairs(seed))
        for kind in ("alignment", "updates"):
            joined, alone = (s.of(kind, "V1->V2") for s in (stores[seed], stores[2 + seed]))
            for name in ("change_norm", "change_cosine", "change_agreement") if kind == "alignment" else ("change",):
                assert all(joined[e][name] == pytest.approx(alone[e][name], abs=1e-6) for e in alone)


def test_measures_of_a_change_in_closed_form() -> None:
    change, update, reference = np.array([3.0, 4.0]), np.array([3.0, 0.0]), np.array([0.0, -2.0])
    found = compare_change(change, update, reference)
    assert found == pytest.approx({"change_norm": 5.0, "change_agreement": 0.6, "change_cosine": -0.8})
    assert "change_cosine" not in compare_change(torch.from_numpy(change), torch.from_numpy(update))
    assert math.isnan(compare_change(change * 0, update, reference)["change_agreement"])


GOOD = {"reference_norm": 1.0, "activity_growth": 2.0, "stability": 0.0, "reference_stability": 0.0, "cosine": 0.5}
BAD = {0: {}, 1: {"cosine": math.nan}, 2: {"reference_norm": 1e-9}, 3: {"activity_growth": 80.0}, 4: {"stability": 0.9}}


@pytest.mark.parametrize("code", BAD)
def test_every_code_has_its_case(code: int) -> None:
    assert untrusted_because(**{**GOOD, **BAD[code]}) == code
    assert set(UNTRUSTED_BECAUSE) == set(BAD)


def test_reason_growth_and_precision_are_in_the_file(tmp_path: Path) -> None:
    run, circuit = tmp_path / "run", dense_circuit(4)
    with TrajectoryWriter(run) as store:
        options: dict[str, Any] = {"store": store, "recorders": [UpdateRecorder(1, "bp")], "device": "cpu"}
        simulation = Simulation(circuit.network, "dfa", Synapses("sgd", lr=0.0), **options)
        simulation.run([full_moment(circuit, seed=seed).to("cpu", torch.float32) for seed in range(3)])
    tree = open_trajectory(run)
    measured = tree["alignment"].to_dataset()
    assert measured["activity_growth"].sel(pathway="V1->V2").values == pytest.approx(
        [max(_norms(simulation, seed)) for seed in range(3)], rel=1e-5
    )
    assert ((measured["untrusted_because"] == 0) == measured["trustworthy"].astype(bool)).all()
    meanings = measured["untrusted_because"].attrs["flag_meanings"].split()
    assert meanings == list(UNTRUSTED_BECAUSE.values())
    assert manifest(run)["precision"] == {"weights": "float32", "products": "float32", "comparison": "float64"}
    assert '"comparison": "float64"' in tree.attrs["precision"]
    segment, *_ = (run / "trajectory").glob("*.nc")
    with netCDF4.Dataset(segment) as file:
        stored = file["alignment"]["untrusted_because"]
        assert stored.flag_values.dtype == stored.dtype, "as CF asks"
        assert len(stored.flag_values) == len(stored.flag_meanings.split())


def _norms(simulation: Simulation, seed: int) -> list[float]:
    shown = full_moment(simulation.network, seed=seed)
    seen = simulation.circuit.sweep(next(iter(shown)).stimulus.float())  # type: ignore[attr-defined]
    v1, v2, top = (float(seen.output[name].norm()) for name in ("V1", "V2", "readout"))
    return [v2 / v1, top / v2]
