"""What rules declare, that they cannot reach further, and what local rules do not feel."""

from typing import Any

import pytest
import torch
from conftest import dense_circuit, full_moment, map_circuit, stimulus_of, wired

from neurossl.errors import LocalityError, OptionError
from neurossl.events import Moment, Phase, Teaching
from neurossl.plasticity import NEEDS, RULES, Rule, make_rule, propose, register


@pytest.mark.parametrize(
    "reach", ["label", "copied label", "weights", "phase", "above", "elsewhere", "another population", "settling"]
)
def test_a_rule_that_reaches_too_far_is_refused(reach: str) -> None:
    class Greedy(Rule):
        """Reaches for what it has not declared."""

        name = "greedy"

        def credit(self, scope: Any, moment: Moment) -> Any:
            site = next(scope.sites())
            assert site.population == "V1"
            if reach == "label":
                moment.require(Teaching, by="greedy")
            elif reach == "copied label":
                assert not [event for event in moment if isinstance(event, Teaching)]
                moment.with_events().require(Teaching, by="greedy")
            elif reach == "weights":
                scope.transport(scope.below("V2")[0], site.drive)
            elif reach == "phase":
                moment.require(Phase, by="greedy")
            elif reach == "above":
                site.context(site.feedback("V2=>V1"), online=False)
            elif reach == "elsewhere":
                site.feedback("V2=>V2")
            elif reach == "another population":
                scope.site("V2")
            else:
                scope.predict({})
            yield from ()

    circuit = wired(make_rule("clapp-dfb"), dense_circuit(None))
    moment = full_moment(circuit)
    expected = {
        "label": "'target'",
        "copied label": "'target'",
        "weights": "'weight transport'",
        "phase": "'phases'",
        "above": "'top-down activity'",
        "elsewhere": "ends elsewhere",
        "another population": "'other populations'",
        "settling": "'settling'",
    }
    with pytest.raises(LocalityError, match=expected[reach]):
        list(propose(Greedy(), circuit.sweep(stimulus_of(moment)), moment))


LOCAL = ["clapp++gap", "clapp++", "ff", "scff", "phyll", "infonce-local", "barlow-local", "vicreg-local", "lpl", "rpl"]


@pytest.mark.parametrize("name", [*LOCAL, "softhebb"])
def test_local_rules_do_not_feel_the_weights_above(name: str) -> None:
    rule = make_rule(name)
    circuit = wired(rule, map_circuit(None, normalisation=rule.normalisation))
    moment = full_moment(circuit)
    stimulus = stimulus_of(moment)
    before = {path: u.weight for path, u in propose(rule, circuit.sweep(stimulus), moment)}
    for above in circuit.network.pathways.values():
        if above.post == "V3":
            circuit.weights[above.name].weight.mul_(-3)
    after = {path: u.weight for path, u in propose(rule, circuit.sweep(stimulus), moment)}
    for pathway in circuit.network.pathways.values():
        assert torch.equal(before[pathway.name], after[pathway.name]) == (pathway.post != "V3"), pathway.name


def test_the_ledger_is_declared_in_known_words() -> None:
    for name in RULES:
        described = make_rule(name).describe()
        assert set(described["needs"]) <= set(NEEDS)
    assert "weight transport" in make_rule("bp").describe()["needs"]
    assert "weight transport" not in make_rule("dfa").describe()["needs"]
    assert make_rule("clapp++gap").describe()["needs"] == ["neuromodulator", "lateral context"]
    with pytest.raises(OptionError, match="needs 'telepathy', which is not one of"):
        register("psychic")(type("Psychic", (Rule,), {"needs": frozenset({"telepathy"})}))
