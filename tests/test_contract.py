"""``neurossl selftest --rule``: rules that keep to the contract pass, each way to break it is noticed by its own check."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import readme_rule
import torch
from readme_phases import EquilibriumPropagation
from test_rules_of_ones_own import LPL, Bursts, WithFactors
from torch import Tensor

from neurossl import Credit, Factors, Fixation, Moment, Rule, Teaching, make_rule
from neurossl.errors import NetworkError
from neurossl.plasticity import RULES, Local, Objective, Scope, Site
from neurossl.plasticity.credit import learning_gain
from neurossl.selftest import Check, check_rule, check_rules
from neurossl.selftest.cases import Case, regrouped
from protocols.cli import main

FEW = ["clapp++", "clapp-dfb", "softhebb", "ff", "scff", "barlow-local", "mono-forward", "dfa", "z-il", "bp"]


def failures(rule: Rule) -> dict[str, str]:
    """Return what failed, by check."""
    return {check.name: check.found for check in check_rule(rule) if not check.passed}


def of(rule: Rule, name: str) -> Check:
    return next(check for check in check_rule(rule) if check.name == name)


@pytest.mark.parametrize("name", FEW)
def test_rules_keep_to_the_contract(name: str) -> None:
    checks = check_rule(name)
    assert not [check.line() for check in checks if not check.passed]
    assert sum(check.verdict == "ok" for check in checks) >= 11


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, f in RULES.items() if f.__module__.startswith("neurossl.") and n not in FEW])
def test_all_other_rules_keep_to_it_too(name: str) -> None:
    assert failures(make_rule(name)) == {}


@pytest.mark.parametrize("rule", [readme_rule.StayOrLeave(), LPL(), WithFactors()])
def test_rules_that_users_write_keep_to_it(rule: Rule) -> None:
    assert failures(rule) == {}


@pytest.mark.slow
def test_so_does_a_rule_of_two_phases() -> None:
    assert failures(EquilibriumPropagation()) == {}


class Broken(Rule):
    """Hebbian; what follows from it breaks the contract."""

    needs: ClassVar[Any] = frozenset()

    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity


class NotANumber(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity / 0 * 0


class NotANumberInTheDark(Broken):
    """Divides by the length of what is seen, which is 0 for an observer that sees nothing."""

    def credit_at(self, site: Site, moment: Moment) -> Any:
        x = next(iter(site.presynaptic.values())).flatten(1)
        return site.activity * (1 / x.norm(dim=1)).view(-1, *[1] * (site.activity.ndim - 1))


class WrongShape(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity.flatten(1)[:, :2]


class DenseAlone(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return torch.einsum("ro,o->ro", site.activity, torch.ones(site.activity.shape[1]).to(site.activity))


class InOneNumberType(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        z = site.activity.flatten(1)
        return (z @ torch.eye(z.shape[1], dtype=torch.float64)).view_as(site.activity)


MEANS: dict[str, Tensor] = {}


class RemembersGlobally(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        mean = MEANS.get(site.population)
        z = site.activity
        mean = z.mean(0) if mean is None or mean.shape != z.shape[1:] else 0.9 * mean + 0.1 * z.mean(0)
        MEANS[site.population] = mean
        return z - mean


class RemembersTheFirst(Broken):
    def __init__(self) -> None:
        self.first: dict[str, Tensor] = {}

    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity - self.first.setdefault(site.population, site.activity.mean(0))


class LooksAtOthers(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity - site.activity.mean(0)


class CountsRows(Broken):
    """The first row is special."""

    def credit_at(self, site: Site, moment: Moment) -> Any:
        weight = torch.arange(site.rows).to(site.activity)
        return site.activity * weight.view(-1, *[1] * (site.activity.ndim - 1))


class TransportsWeights(Broken):
    awaits = (Fixation, Teaching)
    needs = frozenset({"target", "other populations"})

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        error = -scope.site(scope.top).activity
        for name in reversed(scope.populations):
            somatic = scope.site(name).somatic(error)
            yield name, Credit(somatic=somatic)
            error = scope.transport(scope.below(name)[0], somatic)


class ChangesWeights(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        next(iter(site.weights.values())).mul_(0.99)
        return site.activity


class ChangesActivityBehindTorch(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        site.activity.data.numpy()[:] *= 0.5
        return site.activity


class DrawsGlobally(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity + torch.randn_like(site.activity)


class Draws(Broken):
    """As it should be."""

    def credit_at(self, site: Site, moment: Moment) -> Any:
        z = site.activity
        return z + torch.randn(z.shape, generator=site.generator("noise")).to(z)


class Grows(Broken):
    name = "Grows"

    def credit_at(self, site: Site, moment: Moment) -> Any:
        return site.activity * site.rows


class Nothing(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return torch.zeros_like(site.activity)


class Differentiates(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        with torch.enable_grad():
            z = site.activity.detach().clone().requires_grad_()
            return -torch.autograd.grad((z**4).sum(), z)[0]


class DifferentiatesWithoutAGraph(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        z = site.activity.detach().clone().requires_grad_()
        return -torch.autograd.grad((z**4).sum(), z)[0]


class Deaf(Broken):
    """Does not hear the neuromodulator."""

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        for site in scope.sites():
            yield site.population, Credit(site.activity)


class OtherFactors(Broken):
    def factors(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, list[Factors]]]:
        for site in scope.sites():
            yield site.population, [Factors(torch.ones(site.rows).to(site.activity), 2 * site.activity)]


class Unwritable(Broken):
    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "rule_options": {"kernel": torch.ones(3)}}


class Stops(Broken):
    def credit_at(self, site: Site, moment: Moment) -> Any:
        return {}["weight"]


class Downhill(Objective):
    """Large activity is good; the credit has the sign of the loss."""

    name = "energy"

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def credit(self, site: Site, moment: Moment) -> Credit:
        z = site.activity
        return Credit(self.sign * z, losses={"loss": -z.square().flatten(1).sum(1).mean() / 2}).gained(learning_gain(moment))


BROKEN: list[tuple[type[Rule], str, str]] = [
    (
        NotANumber,
        "updates are finite",
        "credit is NaN or infinite although the activity is not: look for a division by zero",
    ),
    (NotANumberInTheDark, "updates are finite", "when an observer sees nothing"),
    (WrongShape, "runs in three kinds of network", "credit must have the shape (10, 5), got (10, 2)"),
    (
        InOneNumberType,
        "runs in three kinds of network",
        "runs in the dense network, float64, but not in the other number type",
    ),
    (Stops, "runs in three kinds of network", "of test_contract.py: KeyError: 'weight'"),
    (RemembersGlobally, "says the same twice", "it remembers something in a global variable or an attribute"),
    (RemembersTheFirst, "remembers only its state", "declare it (state = {'mean': 'population'})"),
    (LooksAtOthers, "uses what it declares", "add 'other observers' to its needs"),
    (CountsRows, "observers in any order", "must not depend on its place; find the other view through Fixation.partner"),
    (TransportsWeights, "uses what it declares", "add 'weight transport' to its needs"),
    (ChangesWeights, "changes nothing by itself", "changes the weights of 'retina->V1' in its credit()"),
    (ChangesActivityBehindTorch, "changes nothing by itself", "changes the activity of 'V1'"),
    (DrawsGlobally, "says the same twice", "generator=site.generator('name')"),
    (Grows, "a mean over observers", "twice the update: it grows with the number of observers"),
    (Nothing, "some weights change", "no feedforward weight changes in three moments"),
    (Differentiates, "needs no autograd", "write the derivative out"),
    (DifferentiatesWithoutAGraph, "needs no autograd", "write the derivative out"),
    (Deaf, "the neuromodulator scales it", "although the neuromodulator is 0 for every observer"),
    (OtherFactors, "factors make the same update", "factors() make another update than credit()"),
    (Unwritable, "a stored run can describe it", "cannot be written into a stored run"),
]


@pytest.mark.parametrize(("rule", "check", "says"), BROKEN, ids=[rule.__name__ for rule, _, _ in BROKEN])
def test_each_way_to_break_it_is_noticed_by_its_check(rule: type[Rule], check: str, says: str) -> None:
    MEANS.clear()
    failed = failures(rule())
    assert check in failed, failed
    assert says in failed[check]
    assert "\n" not in failed[check]


def test_what_fails_is_said_once() -> None:
    """Neither a random rule nor one that breaks at once is told that it breaks everything."""
    assert set(failures(DrawsGlobally())) <= {
        "says the same twice",
        "uses what it declares",
        "a checkpoint goes on bit for bit",
    }
    assert set(failures(WrongShape())) == {"runs in three kinds of network"}
    assert set(failures(ChangesWeights())) == {"changes nothing by itself"}
    assert set(failures(TransportsWeights())) == {"uses what it declares"}


def test_an_update_that_raises_its_loss_is_noticed() -> None:
    assert failures(Local(Downhill())) == {}
    assert "by its gradient" in of(Local(Downhill()), "its update lowers its loss").found
    assert (
        "a small step along the update raises the loss at" in failures(Local(Downhill(-1.0)))["its update lowers its loss"]
    )


def test_random_numbers_of_the_sites_are_as_they_should_be() -> None:
    assert failures(Draws()) == {}
    assert "draws random numbers" in of(Draws(), "observers in any order").found


def test_a_gain_that_is_not_passed_on_is_noticed() -> None:
    """The rule of dendritic bursts yields credit() of its own, and leaves the gain out."""
    assert "the neuromodulator scales it" in failures(Bursts())


def test_a_declared_need_without_use_is_a_note() -> None:
    class Cautious(Broken):
        needs = frozenset({"weight transport"})

    check = of(Cautious(), "needs what it declares")
    assert (check.verdict, check.passed) == ("note", True)
    assert "says the same without 'weight transport'" in check.found


def test_a_rule_may_refuse_networks_that_it_is_not_for() -> None:
    class Chains(DenseAlone):
        def wire(self, network: Any) -> Any:
            if any(len(population.neurons) > 1 for population in network.populations.values()):
                raise NetworkError("not for maps")
            return network

    for rule in (Chains(), DenseAlone()):  # by what it says, or by an error
        assert failures(rule) == {}
        assert "dense, skip; float64 and float32; not convolutional: " in of(rule, "runs in three kinds of network").found


def test_observers_twice_are_the_moment_twice() -> None:
    case = Case.of(make_rule("clapp++"), "dense", torch.float64)
    moment, rows = regrouped(case.moment, [*range(5), *range(5)])
    before, after = (m.require(Fixation, "test") for m in (case.moment, moment))
    assert torch.equal(after.stimulus, before.stimulus[rows])
    assert torch.equal(rows[after.partner], before.partner[rows])


def test_of_several_rules_there_is_a_line_each_and_one_per_failure() -> None:
    lines: list[str] = []
    assert not check_rules([Broken(), Grows()], lines.append)
    assert lines[0].startswith("ok      Broken")
    assert lines[1].startswith("FAIL    Grows")
    assert lines[2].startswith("    FAIL    a mean over observers")
    assert lines[-1] == "1 of 2 rules keep to the contract"


SCRIPT = """
from neurossl import Rule

class Mine(Rule):
    "Hebb."
    def __init__(self, gain=1.0):
        self.gain = gain
    def credit_at(self, site, moment):
        return self.gain * site.activity

class Counting(Rule):
    "Hebb, but for the mean."
    def credit_at(self, site, moment):
        return site.rows * site.activity
"""


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["selftest", "--rule", "../mine.py:Mine:gain=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Mine keeps to the contract of a rule"
    assert any(line.startswith("ok      a stored run can describe it") and "gain=2" in line for line in lines)
    assert any(line.startswith("ok      a stored run has a report") for line in lines)
    assert main(["selftest", f"--rule={tmp_path}/mine.py:Counting"]) == 1
    assert "FAIL    a mean over observers" in capsys.readouterr().out
    assert not list((tmp_path / "elsewhere").iterdir()), "nothing is written"
    for given, said in (
        (["../mine.py:Mein"], "there is no 'Mein'; there are: Mine, Counting"),
        (["../mine.py"], "which of its rules? expected ../mine.py:NAME"),
        (["../mine.py:Mine:gian=2"], "unexpected keyword argument 'gian'"),
        (["../broken.py:Mine"], "line 1: SyntaxError"),
        (["nowhere.py:Mine"], "there is no such file"),
        (["clap"], "did you mean 'clapp"),
        (["all", "clapp"], "leave out the others"),
    ):
        assert main(["selftest", *(word for one in given for word in ("--rule", one))]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
    assert main(["selftest", "--rule", "clapp", "--dtype", "float32"]) == 2
    assert "without --dtype" in capsys.readouterr().err
