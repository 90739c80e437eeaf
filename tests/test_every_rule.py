"""``--rules all``: every rule that can learn in the network, once, in an order, with one line about those that cannot."""

import json
from pathlib import Path

import pytest

from neurossl import Network, Rule, convolutional, from_description, mlp
from neurossl.errors import OptionError
from neurossl.plasticity import RULES
from protocols import compare_rules
from protocols.harness.rules import choose_rules, with_every_rule


def dense(rule: Rule) -> Network:
    return mlp(12, [9, 7], 4 if "target" in rule.needs else None, normalisation=rule.normalisation)


def maps(rule: Rule) -> Network:
    blocks = [(4, False), (5, True), (3, False)]
    return convolutional((2, 9, 9), blocks, 4 if "target" in rule.needs else None, normalisation=rule.normalisation)


def skips(rule: Rule) -> Network:
    classes = 4 if "target" in rule.needs else None
    return from_description("residual:8-8-8", (2, 8, 8), classes, normalisation=rule.normalisation)


@pytest.mark.parametrize("network_for", [dense, maps])
def test_they_are_all_there_once(network_for: object, capsys: pytest.CaptureFixture[str]) -> None:
    names = with_every_rule(["all"], network_for, compare_rules.OPTIONS)  # type: ignore[arg-type]
    assert sorted(map(str, names)) == sorted(RULES)
    assert capsys.readouterr().out == ""
    assert [rule.base for rule in choose_rules(names, compare_rules.OPTIONS)] == names


def test_local_rules_come_first_and_backprop_last() -> None:
    names = [str(name) for name in with_every_rule(["all"], dense, {})]
    assert names.index("softhebb") < names.index("dfa") < names.index("bp-infonce")
    assert all(name.startswith("bp") for name in names[names.index("bp-clapp++") :])
    assert max(names.index(name) for name in ("clapp++", "lpl", "mono-forward", "scff")) < names.index("pc")


def test_those_that_make_no_sense_there_are_left_out_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    names = with_every_rule(["all"], skips, {})
    (line,) = capsys.readouterr().out.strip().splitlines()
    assert line.startswith("left out of all rules: ")
    assert "z-il (schedule 'z-il' equals backprop in chains only" in line
    assert set(RULES) - set(names) == {name for name in RULES if f" {name} (" in line}
    assert {"clapp++", "softhebb", "mono-forward", "pc", "bp"} <= set(names)


def test_what_is_named_besides_is_there_once_in_its_place() -> None:
    names = with_every_rule(["bp", "all", "pc:steps=3"], dense, {})
    assert (names[0], names[-1]) == ("bp", "pc:steps=3")
    assert sorted(map(str, names[:-1])) == sorted(RULES)
    assert with_every_rule(["bp", "pc"], dense, {}) == ["bp", "pc"]
    with pytest.raises(OptionError, match="expected different names"):
        choose_rules(with_every_rule(["all", "bp", "bp"], dense, {}))


def test_compare_rules_runs_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: RULES[name] for name in ("bp-infonce", "pc", "infonce-local")}
    monkeypatch.setattr("protocols.harness.rules.RULES", few)
    compare_rules.run(str(tmp_path / "run"), rules=["all"], tiny=True, network="mlp:16-16")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["rule"] for row in results["table"]] == ["InfoNCE, local", "PC, supervised", "BP-InfoNCE"]


def test_every_new_rule_has_a_label() -> None:
    new = {"barlow-local", "vicreg-local", "lpl", "rpl", "softhebb", "mono-forward", "bp-barlow", "infonce-local"}
    assert new <= set(compare_rules.LABELS)
    assert len(set(compare_rules.LABELS.values())) == len(compare_rules.LABELS)
    assert new <= set(compare_rules.RATES)
