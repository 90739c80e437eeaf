"""Does the gain of spatial dependence carry over to residual networks and to networks of patch tokens?

CLAPP++ scores a map cell by cell, in place of its mean over all places: spatial dependence, to which most of its gain over
CLAPP is ascribed in a plain convolutional network (Wu et al. 2026, arXiv 2601.21683). Here the same rules learn in networks
of equal depth without skips, with fixed and with plastic skips, and in one whose places are the tokens of patches; with and
without spatial dependence, from lateral context and from direct feedback, beside backprop and no learning. All see the same
views; learning rates are chosen on images set aside, out of as many for each; the gain is paired by seed.
"""

from typing import Unpack

import analysis
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.shared import reject_unknown
from protocols.images.tasks import learn_at_best_rates
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
    with Experiment(asked.setting, asked.options, asked.tasks) as experiment:
        learned, tried = learn_at_best_rates(experiment, asked.tasks, asked.bench, asked.rates, asked.trial_epochs)
        return experiment.report(lambda comparison: results_of(comparison, learned, asked.networks, tried, asked.options))
