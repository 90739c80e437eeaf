"""What a rule has to do in a stored run, besides the contract that `neurossl.selftest` checks: be read and reported."""

import copy
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path

import torch

import analysis
from neurossl.engine import Execution
from neurossl.errors import NeurosslError, OptionError
from neurossl.plasticity import RULES, Rule, make_rule
from neurossl.recorders import Recorder, UpdateRecorder, WeightRecorder
from neurossl.selftest import Check, check_rules
from neurossl.selftest.cases import KINDS, Case
from neurossl.selftest.contract import told
from neurossl.simulation import Simulation
from protocols.harness.printing import say
from protocols.harness.rules import ALL, choose_rules

STORED = "a stored run has a report"


def check_chosen(given: Sequence[str]) -> bool:
    """Check rules as they are named on the command line; report a line per check, and return whether all passed."""
    if ALL in given:
        if len(given) > 1:
            raise OptionError(f"selftest: --rule {ALL} is every registered rule; leave out the others")
        return check_rules([make_rule(name) for name in RULES], say)
    return check_rules([one.rule for one in choose_rules(given)], say, further=[stored])


def stored(rule: Rule) -> Check:
    """Check that a run of three moments can be stored, read again and reported."""
    try:
        recorders: list[Recorder] = [WeightRecorder(every=1)]
        if rule.reference() is not None:
            recorders.append(UpdateRecorder(every=1))
        with tempfile.TemporaryDirectory(prefix="neurossl-selftest-") as folder, redirect_stderr(io.StringIO()):
            case, run = _first_case(rule), Path(folder) / "run"
            with analysis.TrajectoryWriter(run) as store:
                simulation = Simulation(
                    case.circuit.network,
                    copy.deepcopy(rule),
                    store=store,
                    recorders=recorders,
                    device="cpu",
                    execution=Execution(),
                )
                simulation.run(list(case.moments))
            analysis.write_report(analysis.open_comparison([str(run)]).finished(), str(Path(folder) / "report.html"))
    except Exception as reason:
        return Check(STORED, "FAIL", told(reason))
    names = ", ".join(type(one).__name__ for one in recorders)
    return Check(STORED, "ok", f"three moments with {names}, read again and reported")


def _first_case(rule: Rule) -> Case:
    """Return a small network that the rule does not refuse."""
    for kind in KINDS:
        with suppress(NeurosslError):
            return Case.of(rule, kind, torch.float32)
    raise OptionError("it refuses every network")
