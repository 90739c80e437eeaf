"""Can predictive coding and feedback alignment carry the credit of a self-supervised objective, and if not, why?

Two self-supervised objectives (CLAPP++'s contrastive score and InfoNCE) and a supervised one stand at the top of the same
network, and their credit reaches the populations below by backprop (BP), feedback alignment (FA), direct feedback alignment
(DFA) or predictive coding (PC); beside them the local rules (CLAPP), which need no transport, and the control in which only
the top learns. Same views, budget and seeds for all; learning rates are chosen on images held out of the training set.
Then the stored weights are loaded again, and the error units are watched while they settle (`protocols.credit.settling`).
Source of the question: Wu, Delrocq, Gerstner, Bellec 2026, arXiv 2601.21683.
"""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import analysis
from neurossl.errors import OptionError
from protocols.credit.conditions import LONG, OBJECTIVES, Condition, conditions_for
from protocols.credit.rates import FEEDBACK_RATE, RATES, Choice, best_rate, try_rate, without_test
from protocols.credit.results import results_of
from protocols.credit.watching import Watch, watch
from protocols.harness.checks import different
from protocols.harness.experiment import Experiment
from protocols.harness.learning import learning_trial
from protocols.harness.options import defaults
from protocols.harness.settings import Setting, settle
from protocols.harness.shared import Batched, reject_unknown
from protocols.harness.trial import Trial, freeze_below_top

USUAL = {"dataset": "digits", "network": 128, "budget": 240, "observers": 64, "seeds": 3}
TINY = {"network": "mlp:16-16-16-16", "budget": 4, "observers": 16, "seeds": 1}


@defaults(**USUAL)
def run(
    out: str,
    *,
    objectives: Sequence[str] | None = None,
    steps: int | None = None,
    rate: float = 0.05,
    **common: Unpack[Batched],
) -> analysis.Results:
    """Compare BP, FA, DFA and PC as transports of self-supervised and supervised credit, and watch error units settle.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    objectives : sequence of str, optional
        contrastive, infonce, cross-entropy; all by default.
    steps : int, optional
        Settling steps of predictive coding; 10 by default.
    rate : float
        Size of a settling step.
    **common
        See `protocols.harness.shared.Batched`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Batched)
    if objectives is not None:
        different("objectives", objectives, OBJECTIVES)
    if not rate < float("inf") or (steps or 0) > 10**4:
        raise OptionError(f"settling: expected a finite rate and at most 10,000 steps, got {rate} and {steps}")
    setting = settle(out, "ssl_credit_assignment", common, USUAL, TINY)
    names = setting.choose("objectives", objectives, tuple(OBJECTIVES))
    steps = steps if steps is not None else 4 if setting.tiny else 10
    conditions = [c for n in names for c in conditions_for(n, steps, rate, (6, LONG[1]) if setting.tiny else LONG)]
    read = (100, 50) if setting.tiny else (5000, 2000)
    planned = [_trial(setting, c, seed, RATES[0], read) for c in conditions for seed in setting.seeds]
    choosing = without_test(setting.images, setting.observers)
    options = setting.options(objectives=names, steps=steps, rate=rate)
    with Experiment(setting, options, planned) as experiment:
        tried = experiment.call(
            [Choice(c, r) for c in conditions for r in (RATES[1:3] if setting.tiny else RATES)],
            partial(try_rate, setting=setting, images=choosing, read=read),
            what="learning rates tried",
            kept=lambda choice: f"{choice.file}-{setting.budget}-moments.json",
        )
        accuracies = [{"condition": o.job.condition, "rate": o.job.rate, "accuracy": o.result} for o in tried]
        best = {c.name: best_rate([a for a in accuracies if a["condition"] is c]) for c in conditions}
        experiment.trials = [_trial(setting, c, s, best[c.name], read) for c in conditions for s in setting.seeds]
        experiment.learn()
        watched = experiment.call(
            [Watch(n, s) for n in names for s in setting.seeds if _both_there(experiment, n, s)],
            partial(watch, folder=setting.out, setting=setting, steps=steps, rate=rate),
            moments=1,
            what="networks watched while they settle",
            kept=lambda job: f"watched/{job.objective}/seed-{job.seed}-{setting.budget}-moments.json",
        )
        traces = [record for outcome in watched if not outcome.problem for record in outcome.result]
        labels = {name: OBJECTIVES[name][0] for name in names}
        return experiment.report(
            lambda comparison: results_of(comparison, conditions, labels, accuracies, best, traces, options)
        )


def _trial(setting: Setting, condition: Condition, seed: int, rate: float, read: tuple[int, int]) -> Trial:
    return learning_trial(
        setting,
        condition.name,
        condition.label,
        condition.make(),
        seed,
        (rate, FEEDBACK_RATE),
        records=4 if setting.tiny else 20,
        read=read,
        reference=condition.reference(),
        change=freeze_below_top if condition.top_only else None,
    )


def _both_there(experiment: Experiment, objective: str, seed: int) -> bool:
    """Return whether both networks that are to be watched have been made."""
    return all(experiment.finished(f"{objective}-{name}/seed-{seed}") for name in ("pc", "bp"))
