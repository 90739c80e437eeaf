"""Does the gain of spatial dependence carry over to residual networks and to networks of patch tokens?

CLAPP++ scores a map cell by cell, in place of its mean over all places: spatial dependence, to which most of its gain over
CLAPP is ascribed in a plain convolutional network (Wu et al. 2026, arXiv 2601.21683). Here the same rules learn in networks
of equal depth without skips, with fixed and with plastic skips, and in one whose places are the tokens of patches; with and
without spatial dependence, from lateral context and from direct feedback, beside backprop and no learning. All see the same
views; learning rates are chosen on images set aside, out of as many for each; the gain is paired by seed.
"""

from dataclasses import replace
from typing import Unpack

import analysis
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.shared import reject_unknown
from protocols.images.runs import trial_of
from protocols.images.tasks import best_rates, rate_trials, tried_rates
from protocols.spatial.plan import OWN, USUAL, Options, plan
from protocols.spatial.results import results_of


@defaults(**{**OWN, **USUAL})
def run(out: str, **given: Unpack[Options]) -> analysis.Results:
    """Measure the gain of spatial dependence per network, and whether it differs from that in the first, plain one.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    **given
        See `protocols.spatial.plan.Options`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(given, Options)
    asked = plan(out, given)
    bench, seeds = asked.bench, asked.setting.seeds
    learning = [one for one in asked.tasks if one.seed == seeds[0] and one.epochs and len(asked.rates) > 1]
    trials = [t for one in learning for rate in asked.rates for t in rate_trials(one, rate, asked.trial_epochs, 1)]
    with Experiment(asked.setting, asked.options, asked.tasks) as experiment:
        experiment.learn([trial_of(one, bench) for one in trials], "trials of learning rates")
        tried = tried_rates(experiment.folder, [one for one in trials if one.path not in experiment.problems])
        best = best_rates(tried)
        if any(one.label not in best for one in trials):
            experiment.tell_problems()
        tasks = [replace(one, rate=best.get(one.label, one.rate)) for one in asked.tasks]
        experiment.trials = [trial_of(one, bench) for one in tasks]
        experiment.learn()
        return experiment.report(lambda comparison: results_of(comparison, tasks, asked.networks, tried, asked.options))
