"""What a rule has to do in a stored run, besides the contract that `neurossl.selftest` checks: be read and reported."""

import copy
import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

import torch

import analysis
from neurossl.engine import Execution
from neurossl.errors import OptionError
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
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
    case = None
    for kind in KINDS:
        try:
            case = Case.of(rule, kind, torch.float32)
            break
        except Exception:
            continue
    assert case is not None, "a rule that passes learns somewhere"
    recorders: list[Recorder] = [WeightRecorder(every=1)]
    if rule.reference() is not None:
        recorders.append(UpdateRecorder(every=1))
    with tempfile.TemporaryDirectory(prefix="neurossl-selftest-") as folder, redirect_stderr(io.StringIO()):
        run, page = Path(folder) / "run", Path(folder) / "report.html"
        try:
            with analysis.TrajectoryWriter(run) as store:
                options = {"store": store, "recorders": recorders, "device": "cpu", "execution": Execution()}
                simulation = Simulation(case.circuit.network, copy.deepcopy(rule), Synapses(), **options)  # type: ignore[arg-type]
                simulation.run(list(case.moments))
            comparison = analysis.open_comparison([str(run)]).finished()
            analysis.write_report(comparison, str(page))
        except Exception as reason:
            return Check(STORED, "FAIL", told(reason))
        return Check(
            STORED, "ok", f"three moments, {', '.join(type(one).__name__ for one in recorders)}; read again, and a report"
        )
