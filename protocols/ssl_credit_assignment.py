"""Can predictive coding and feedback alignment carry the credit of a self-supervised objective, and if not, why?

Self-supervised objectives that backprop learns well here (InfoNCE, Barlow Twins) and a supervised one stand at the top of
the same network, and their credit reaches the populations below by backprop (BP), feedback alignment (FA), direct feedback
alignment (DFA) or predictive coding (PC), which settles for a few small steps (in which it is nearly backprop), for longer,
to its equilibrium, or learns at every step; beside them the local rule of the same objective, which needs no transport, and
the control in which only the top learns. Same views, weights, number of learning rates tried and seeds for all; rates are
chosen on images held out of the training set. Then the stored weights are loaded again, and the error units are watched
while they settle (`protocols.credit.settling`). What works and what falls short is defined in `protocols.credit.verdicts`.

The claim that is tested, as a summary has it (second-hand): "predictive coding fails to learn useful representations for
self-supervised tasks" (Wu, Delrocq, Gerstner, Bellec 2026, arXiv 2601.21683).
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import analysis
from neurossl.errors import OptionError
from protocols.credit.conditions import (
    LONG,
    LONG_ONES,
    OBJECTIVES,
    TRANSPORTS,
    USUAL_OBJECTIVES,
    conditions_for,
)
from protocols.credit.rates import choose_rates, rates_of, trial_of, without_test
from protocols.credit.results import results_of
from protocols.credit.watching import WATCHED, Watch, watch
from protocols.harness.checks import different, positive
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.settings import settle
from protocols.harness.shared import Batched, reject_unknown

USUAL = {"dataset": "digits", "network": 128, "budget": 240, "observers": 64, "seeds": 8}
TINY = {"network": "mlp:16-16-16-16", "budget": 4, "observers": 16, "seeds": 1}


@defaults(**USUAL)
def run(
    out: str,
    *,
    objectives: Sequence[str] | None = None,
    transports: Sequence[str] | None = None,
    steps: int | None = None,
    rate: float = 0.05,
    full: bool = False,
    **common: Unpack[Batched],
) -> analysis.Results:
    """Compare BP, FA, DFA and PC as transports of self-supervised and supervised credit, and watch error units settle.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    objectives : sequence of str, optional
        infonce, barlow, cross-entropy (supervised), contrastive, prediction; the first three by default.
    transports : sequence of str, optional
        bp, fa, dfa, pc, pc-long, pc-weak, pc-strong, top, local, local-direct, and the long ones bp-repeated, pc-rest, ipc.
    steps : int, optional
        Settling steps of predictive coding; 6 by default.
    rate : float
        Size of a settling step.
    full : bool
        The long ones as well: settling to rest, learning at every step, and backprop as often. 20 minutes on two cores in
        place of 10.
    **common
        See `protocols.harness.shared.Batched`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Batched)
    for name, given, known in (("objectives", objectives, OBJECTIVES), ("transports", transports, TRANSPORTS)):
        if given is not None:
            different(name, given, known)
    if not 0 < rate < float("inf"):
        raise OptionError(f"rate: expected a finite rate of settling above 0, got {rate}")
    steps = None if steps is None else positive("steps", steps, 10**4)
    if full and (common.get("tiny") or transports is not None):
        raise OptionError(f"--full and --{'tiny' if common.get('tiny') else 'transports'}: give one of them")
    setting = settle(out, "ssl_credit_assignment", common, USUAL, TINY)
    names = setting.choose("objectives", objectives, USUAL_OBJECTIVES)
    usual = [kind for kind in TRANSPORTS if full or kind not in LONG_ONES]
    kinds = setting.choose("transports", usual if full else transports, usual)
    steps = steps if steps is not None else 4 if setting.tiny else 6
    long = (6, LONG[1]) if setting.tiny else LONG
    conditions = [c for n in names for c in conditions_for(n, steps, rate, kinds, long)]
    if not conditions:
        raise OptionError(f"transports: {', '.join(kinds)} do not exist for {', '.join(names)}")
    read = (100, 50) if setting.tiny else (5000, 2000)
    choosing = without_test(setting.images, setting.observers)
    options = setting.options(objectives=names, transports=kinds, steps=steps, rate=rate, rates=list(rates_of(setting)))
    jobs = [(c, seed) for c in conditions for seed in setting.seeds]
    planned = [trial_of(setting, c, c.label, seed, rates_of(setting)[0], read) for c, seed in jobs]
    with Experiment(setting, options, planned) as experiment:
        tried, chosen = choose_rates(experiment, [setting.network], conditions, choosing, read)
        experiment.trials = [trial_of(setting, c, c.label, seed, chosen[setting.network, c.name], read) for c, seed in jobs]
        experiment.learn()
        watched = experiment.call(
            [Watch(n, s) for n in names for s in setting.seeds[:WATCHED] if _both_there(experiment, n, s)],
            partial(watch, folder=setting.out, setting=setting, steps=steps, rate=rate),
            moments=1,
            what="networks watched while they settle",
            kept=lambda job: f"watched/{job.objective}/seed-{job.seed}-{setting.budget}-moments.json",
        )
        traces = [record for outcome in watched if not outcome.problem for record in outcome.result]
        labels = {name: OBJECTIVES[name][0] for name in names}
        return experiment.report(
            lambda comparison: results_of(comparison, conditions, labels, tried, chosen, traces, options)
        )


def _both_there(experiment: Experiment, objective: str, seed: int) -> bool:
    """Return whether both networks that are to be watched have been made."""
    return all(experiment.finished(f"{objective}-{name}/seed-{seed}") for name in ("pc", "bp"))
