"""The contract that every rule keeps to: ``neurossl selftest --rule mine.py:MyRule``, or `check_rule` from Python.

A check is a function of a case (`neurossl.selftest.cases`): it returns what it found, raises `Fails` with what was found and
the remedy, or `Skips` where it has nothing to say. What is asked of a single moment stands in
`neurossl.selftest.single_moments` and `own_equations`, what is asked of runs in `short_runs`.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import neurossl
from neurossl.errors import DivergenceError, EventError, LocalityError, NeurosslError
from neurossl.plasticity import Rule, make_rule
from neurossl.plasticity.needs import known_needs
from neurossl.selftest import own_equations, short_runs, single_moments
from neurossl.selftest.cases import DTYPES, KINDS, Case
from neurossl.selftest.verdicts import Fails, Notes, Skips
from neurossl.text import one_line


@dataclass(frozen=True)
class Check:
    """What came of one check of a rule.

    Attributes
    ----------
    name : str
    verdict : {"ok", "note", "skipped", "FAIL"}
    found : str
        What was found, and the remedy.
    """

    name: str
    verdict: str
    found: str

    @property
    def passed(self) -> bool:
        """Whether the rule keeps to this part of the contract, as far as it applies."""
        return self.verdict != "FAIL"

    def line(self) -> str:
        """Return the line that the self-test prints."""
        return one_line_of(self.verdict, self.name, self.found)


def one_line_of(verdict: str, name: str, found: str) -> str:
    """Return a line of verdict, name and what was found, in columns."""
    return f"{verdict:<8}{name:<36}{one_line(found)}".rstrip()


_LIBRARIES = tuple(Path(file).parent for file in (neurossl.__file__, torch.__file__, np.__file__))
Asked = Callable[[Case], str]
RUNS, FINITE, LOCAL, PURE, WRITTEN_OUT = (
    "runs in three kinds of network",
    "updates are finite",
    "uses what it declares",
    "changes nothing by itself",
    "needs no autograd",
)
TWICE = "says the same twice"
IN_A_MOMENT: dict[str, Asked] = {
    FINITE: single_moments.is_finite,
    "some weights change": single_moments.learns,
    TWICE: single_moments.says_the_same_twice,
    "remembers only its state": single_moments.remembers_only_its_state,
    "observers in any order": single_moments.observers_in_any_order,
    "a mean over observers": single_moments.is_a_mean_over_observers,
    "the neuromodulator scales it": single_moments.is_scaled_by_the_neuromodulator,
    LOCAL: single_moments.uses_what_it_declares,
    "needs what it declares": single_moments.needs_what_it_declares,
    PURE: single_moments.changes_nothing,
    WRITTEN_OUT: single_moments.needs_no_autograd,
    "factors make the same update": own_equations.factors_make_the_update,
    "its update lowers its loss": own_equations.lowers_its_loss,
    "its reference proposes": own_equations.reference_proposes,
}
"""Checks of one moment, in every case."""
IN_A_RUN: dict[str, Asked] = {
    "a checkpoint goes on bit for bit": short_runs.goes_on_from_a_checkpoint,
    "replicas are single runs": short_runs.replicas_are_single_runs,
    "a stored run can describe it": short_runs.is_described,
}
"""Checks of a few moments, in one case."""
IN_BOTH = frozenset({FINITE, "some weights change", TWICE, LOCAL, PURE, WRITTEN_OUT})
"""Checks that are made in float32 as well; the others hold in float64, or not at all."""
COMPARING = frozenset(
    {"observers in any order", "a mean over observers", "the neuromodulator scales it", "needs what it declares", LOCAL}
    | {"factors make the same update", "its update lowers its loss", *IN_A_RUN}
)
"""Checks that compare answers, which say nothing of a rule that answers something else every time."""


def check_rule(rule: Rule | str) -> list[Check]:
    """Check that a rule keeps to the contract.

    Parameters
    ----------
    rule : Rule, subclass of Rule, or name of a registered rule

    Returns
    -------
    list of Check
        In the order of the table; a rule that keeps to the contract has none that is a FAIL.

    Examples
    --------
    >>> for check in check_rule(MyRule()):
    ...     print(check.line())
    >>> assert all(check.passed for check in check_rule(MyRule()))
    """
    made = make_rule(rule)
    known_needs(made.needs, made.name)
    cases, faults, unfit = _tried(made)
    kinds = list(dict.fromkeys(case.kind for case in cases))
    if RUNS in faults:
        checks = [Check(RUNS, "FAIL", faults[RUNS])]
    elif not cases:
        checks = [Check(RUNS, "skipped", "see FAIL")]
    else:
        about = f"{', '.join(kinds)}; float64 and float32"
        left_out = "".join(f"; not {kind}: {why}" for kind, why in unfit.items())
        checks = [Check(RUNS, "note" if unfit else "ok", about + left_out)]
    wavers = False
    for name, asked in {**IN_A_MOMENT, **IN_A_RUN}.items():
        if name in faults:
            checks.append(Check(name, "FAIL", faults[name]))
        elif not cases:
            checks.append(Check(name, "skipped", "the rule says nothing that could be looked at: see FAIL"))
        elif wavers and name in COMPARING:
            checks.append(Check(name, "skipped", f"it answers something else every time: see {TWICE!r}"))
        else:
            among = [case for case in cases if case.dtype == DTYPES[0] or name in IN_BOTH] or cases
            checks.append(_asked(name, asked, among[:1] if name in IN_A_RUN else among))
        wavers = wavers or (name == TWICE and not checks[-1].passed)
    return checks


def _tried(rule: Rule) -> tuple[list[Case], dict[str, str], dict[str, str]]:
    """Return the cases in which a rule can be asked, what went wrong by check, and why it is not for other networks."""
    cases: list[Case] = []
    faults: dict[str, str] = {}
    unfit: dict[str, str] = {}
    for dtype in DTYPES:
        for kind in KINDS:
            try:
                case = Case.of(rule, kind, dtype)
                case.updates()
                cases.append(case.warmed())
            except Exception as reason:
                check = _responsible(reason)
                if check == RUNS:
                    unfit.setdefault(kind, f"{told(reason)}{_remedy(reason)}")
                else:
                    faults.setdefault(check, f"in the {kind} network: {told(reason)}{_remedy(reason)}")
    fickle = [kind for kind in unfit if any(case.kind == kind for case in cases)]
    if fickle:  # runs in one number type alone
        runs = next(case.where for case in cases if case.kind == fickle[0])
        faults[RUNS] = f"runs {runs}, but not in the other number type: {unfit[fickle[0]]}"
    elif unfit and not cases and not faults:
        kind, why = next(iter(unfit.items()))
        faults[RUNS] = f"in the {kind} network: {why}"
    return cases, faults, unfit


def _responsible(reason: Exception) -> str:
    """Return the check that an error belongs to."""
    if isinstance(reason, DivergenceError):
        return FINITE
    if isinstance(reason, LocalityError):
        return PURE if "only proposes" in str(reason) else LOCAL
    if isinstance(reason, RuntimeError) and ("require grad" in str(reason) or "requires grad" in str(reason)):
        return WRITTEN_OUT
    return RUNS


def _remedy(reason: Exception) -> str:
    """Return what can be done about an error that does not say so itself."""
    if isinstance(reason, EventError):
        return ": the self-test shows neurossl's own events alone, so that a rule that waits for others cannot be checked"
    if isinstance(reason, NeurosslError):
        return ""
    if isinstance(reason, TypeError) and "pickle" in str(reason):
        return ": a rule is copied for every run; open files and the like where they are used, not in the constructor"
    if _responsible(reason) == WRITTEN_OUT:
        return ": rules learn without autograd; write the derivative out, and return it as credit"
    return " (activities are (rows, neurons), on maps (rows, channels, height, width); drives are before pooling)"


def _asked(name: str, asked: Asked, cases: Sequence[Case]) -> Check:
    """Return what came of a check in all cases: the first failure, or what was found in the first that applies."""
    best = Check(name, "skipped", "")
    for case in cases:
        try:
            check = Check(name, "ok", asked(case))
        except Fails as problem:
            return Check(name, "FAIL", f"{case.where}: {problem}")
        except Notes as note:
            check = Check(name, "note", str(note))
        except Skips as reason:
            check = Check(name, "skipped", str(reason))
        except Exception as reason:
            return Check(name, "FAIL", f"{case.where}: {told(reason)}")
        if not best.found or (best.verdict == "skipped" and check.verdict != "skipped"):
            best = check
    return best


def told(reason: BaseException) -> str:
    """Return an error in a line: of what is not neurossl's own, with the line of the rule on which it happened."""
    if isinstance(reason, NeurosslError):
        return str(reason)
    outside = [
        frame
        for frame in traceback.extract_tb(reason.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in _LIBRARIES) and frame.filename[:1] != "<"
    ]
    where = f"line {outside[-1].lineno} of {Path(outside[-1].filename).name}: " if outside else ""
    return f"{where}{type(reason).__name__}: {str(reason).strip().splitlines()[0] if str(reason).strip() else ''}"


def check_rules(
    rules: Sequence[Rule], report: Callable[[str], None] = print, further: Sequence[Callable[[Rule], Check]] = ()
) -> bool:
    """Check rules and report one line per check, or one per rule and failure where there are several rules.

    Parameters
    ----------
    rules : sequence of Rule
    report : callable
        Is given every line.
    further : sequence of callable
        Further checks of a rule.

    Returns
    -------
    bool
        Whether all of them keep to the contract.
    """
    passed = 0
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors
    try:
        for rule in rules:
            checks = check_rule(rule)
            if all(check.passed for check in checks):
                checks += [one(rule) for one in further]
            failed = [check for check in checks if not check.passed]
            passed += not failed
            if len(rules) > 1:
                ok = sum(check.verdict in ("ok", "note") for check in checks)
                rest = f"{len(failed)} fail" if failed else "the others do not apply"
                summary = f"{ok} of {len(checks)} checks pass, {rest}"
                report(
                    one_line_of("FAIL" if failed else "ok", rule.name, summary if ok < len(checks) else "all checks pass")
                )
            for check in checks if len(rules) == 1 else failed:
                report(check.line() if len(rules) == 1 else f"    {check.line()}")
    finally:
        torch.set_num_threads(before)
    if len(rules) > 1:
        report(f"{passed} of {len(rules)} rules keep to the contract")
    else:
        report(f"{rules[0].name} {'keeps' if passed else 'does not keep'} to the contract of a rule")
    return passed == len(rules)
