"""Comparisons that are 1 by construction: marked where the numbers say so, and nowhere else, before and after learning."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from conftest import MemoryStore, dense_circuit, full_moment, map_circuit, simulated
from oracle import circuit_for, every_rule, skip_circuit

from analysis import alignment_over_training, excluding_by_construction, marked_by_construction
from analysis.construction import equal_pathways
from neurossl.errors import NetworkError, OptionError, TrajectoryError
from neurossl.plasticity import (
    Backprop,
    CrossEntropy,
    DirectFeedbackAlignment,
    Local,
    Rule,
    SquaredError,
    Synapses,
    make_rule,
)
from neurossl.plasticity.construction import by_construction
from neurossl.recorders import AlignmentMeasures, UpdateRecorder


def deviations(rule: Rule, circuit: Any, reference: Rule | None) -> tuple[dict[str, float], MemoryStore, Any]:
    """Return by pathway the largest distance of the cosine from 1 over twelve moments of learning."""
    store = MemoryStore()
    recorders = [UpdateRecorder(1, reference=reference)]
    simulation = simulated(circuit, rule, Synapses("adamw", lr=1e-2), store=store, recorders=recorders)
    simulation.run([full_moment(circuit, rows=16, seed=number) for number in range(12)])
    found = {
        name: max(abs(values["cosine"] - 1) for values in store.of("alignment", name).values())
        for name in circuit.network.feedforward
    }
    return found, store, simulation


NEWER = {
    "fa-sign",
    "fa-kp",
    "dual-prop",
    "blocks-clapp",
    "clapp",
    "clapp-s",
    "bp-hinge-cpc",
    "clapp++both",
    "bp-clapp++both",
}
NEWER |= {"bp-clapp++spatial", "bp-infonce-held", "barlow-local", "bp-barlow", "vicreg-local", "lpl", "rpl", "mono-forward"}
"""Rules of which there are no runs that do not say themselves what is equal."""


@pytest.mark.parametrize("kind", ["dense", "maps"])
@pytest.mark.parametrize("name", every_rule())
def test_what_is_marked_is_1_at_the_start_and_after_learning_and_nothing_else(name: str, kind: str) -> None:
    rule = make_rule(name)
    if rule.reference() is None and not isinstance(rule, Backprop):
        pytest.skip("is compared with nothing")
    taught = 4 if "target" in rule.needs else None
    circuit = circuit_for(rule) if kind == "maps" else dense_circuit(taught, normalisation=rule.normalisation)
    reference = rule if rule.reference() is None else None
    found, store, simulation = deviations(rule, circuit, reference)
    network = simulation.network
    marked = [pathway for pathway in found if by_construction(rule, network, pathway, reference)]
    assert marked == [pathway for pathway, deviation in found.items() if deviation < 1e-12]
    assert store.manifest["by_construction"] == marked
    older = {key: value for key, value in store.manifest.items() if key != "by_construction"}
    if name not in NEWER:
        assert equal_pathways(older) == marked, "as older runs are judged, by their words"


def test_with_skip_pathways_all_that_end_at_the_top_are_marked() -> None:
    for name, expected in (("dfa", ["V3->readout", "V2->readout"]), ("pc-fixed", None), ("pc", [])):
        rule = make_rule(name)
        circuit = skip_circuit()
        found, _, simulation = deviations(rule, circuit, None)
        marked = [pathway for pathway in found if by_construction(rule, simulation.network, pathway)]
        assert marked == [pathway for pathway, deviation in found.items() if deviation < 1e-12]
        assert expected is None or marked == expected


class Louder(DirectFeedbackAlignment):
    """Says its credit itself."""

    def credit(self, scope: Any, moment: Any) -> Any:
        yield from super().credit(scope, moment)


class Hebb(Rule):
    """Has no reference."""

    def credit_at(self, site: Any, moment: Any) -> Any:
        return site.activity


UNMARKED: dict[str, tuple[Rule | str, Rule | str | None]] = {
    "another objective": ("clapp++gap", "bp-infonce"),
    "another contrast": ("clapp++gap", make_rule("bp-clapp++", contrast="softplus")),
    "one of two contexts at the top": ("clapp++both", "bp-clapp++"),
    "another steepness": (make_rule("clapp-phyll", steepness=2.0), make_rule("bp-clapp++", contrast="phyll")),
    "squared error and cross-entropy": (make_rule("bp"), make_rule("bp", objective="squared-error")),
    "mirrors": (make_rule("pc-fixed", feedback="fixed"), None),
    "too few steps": (make_rule("pc-fixed", steps=1), None),
    "a smaller rate": (make_rule("pc-fixed", rate=0.5), None),
    "credit of its own": (Louder(CrossEntropy()), None),
    "a reference that is not backprop": ("clapp++gap", "clapp-dfb"),
    "no reference": (Hebb(), None),
}


@pytest.mark.parametrize("case", UNMARKED)
def test_what_is_not_known_to_be_equal_is_not_marked(case: str) -> None:
    rule, reference = (None if one is None else make_rule(one) for one in UNMARKED[case])
    assert rule is not None
    network = map_circuit(4 if "target" in rule.needs else None).network
    assert not any(by_construction(rule, network, pathway, reference) for pathway in network.feedforward)


def test_an_equal_objective_of_ones_own_making_is_recognised() -> None:
    network = dense_circuit().network
    assert by_construction(Local(SquaredError()), network, "V2->readout", make_rule("bp", objective=SquaredError()))
    assert not by_construction(Local(SquaredError()), network, "V1->V2")
    with pytest.raises(NetworkError, match=r"expected a feedforward pathway \(retina->V1, V1->V2, V2->readout\), got 'V1'"):
        by_construction(make_rule("bp"), network, "V1")


def test_a_run_says_it_whatever_recorder_compares(store: MemoryStore) -> None:
    circuit = dense_circuit()
    recorder = AlignmentMeasures(1, reference="bp", measures="ceiling")
    simulated(circuit, "bp", store=store, recorders=[recorder]).run([full_moment(circuit)])
    assert store.manifest["reference"] == "bp"
    assert store.manifest["by_construction"] == ["retina->V1", "V1->V2", "V2->readout"]
    with pytest.raises(OptionError, match="'by_construction' is said by the simulation itself"):
        simulated(circuit, "bp", about={"by_construction": []})
    alone = MemoryStore()
    simulated(circuit, "bp", store=alone).run([full_moment(circuit)])
    assert alone.manifest["by_construction"] is None


def table(**attrs: Any) -> xr.DataTree:
    cosine = xr.DataArray([[0.1, 1.0], [0.3, 1.0]], {"event": [1, 2], "pathway": ["V1->V2", "V2->V3"]}, ["event", "pathway"])
    measures = xr.Dataset({"cosine": cosine, "clock": ("event", [0.0, 1.0])})
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/alignment": measures})


def test_marked_comparisons_enter_no_mean() -> None:
    measures = alignment_over_training(table(by_construction='["V2->V3"]'))
    assert measures["by_construction"].values.tolist() == [False, True]
    assert float(measures["cosine"].mean()) == pytest.approx(0.6)
    kept = excluding_by_construction(measures)
    assert float(kept["cosine"].mean()) == pytest.approx(0.2)
    assert kept["clock"].dims == ("event",)
    assert float(excluding_by_construction(measures["cosine"]).mean()) == pytest.approx(0.2)
    assert float(excluding_by_construction(kept)["cosine"].mean()) == pytest.approx(0.2), "twice is once"
    with pytest.raises(TrajectoryError, match="do not say which comparisons are 1 by construction"):
        excluding_by_construction(measures.drop_vars("by_construction"))


def test_the_table_of_many_runs_says_it_by_rule() -> None:
    many = xr.Dataset(
        {"cosine": (("rule", "seed", "pathway"), np.arange(8.0).reshape(2, 2, 2))},
        {"by_construction": (("rule", "pathway"), [[True, True], [False, True]]), "pathway": ["a", "b"]},
    )
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), "/alignment": many})
    kept = excluding_by_construction(marked_by_construction(tree))
    assert kept["cosine"].notnull().sum().item() == 2
    assert kept["cosine"].dims == ("rule", "seed", "pathway")


def test_a_run_without_a_reference_says_so() -> None:
    assert not marked_by_construction(table(rule="hebb"))["by_construction"].any()
    with pytest.raises(TrajectoryError, match="hebb: no alignment was recorded"):
        marked_by_construction(xr.DataTree(xr.Dataset(attrs={"rule": "hebb"})))
