"""Does local learning match backprop on natural images? The published table, made again.

Every rule learns from the same views of the same images, in the same network from the same weights, for the same number of
epochs. Linear readouts of every population, and of all together, say what each representation is worth. Choices (learning
rates, penalties of the readouts) are made on images set aside, with the same budget for every rule; the test images are read
once, at the end of a run. Three published claims are decided, or not, by differences paired by seed: that spatial dependence
helps, that direct feedback helps, and that local learning matches backprop (`protocols.images.decisions`).
"""

from typing import Unpack

import analysis
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.shared import reject_unknown
from protocols.images.plan import USUAL, Options, plan
from protocols.images.report import results_of
from protocols.images.tasks import learn_at_best_rates, task


@defaults(**USUAL)
def run(out: str, **given: Unpack[Options]) -> analysis.Results:
    """Train every rule on natural images for so many epochs and read out what it has learned, beside the published table.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    **given
        See `protocols.images.plan.Options`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(given, Options)
    asked = plan(out, given)
    bench = asked.bench
    tasks = [
        task(bench, dataset, method, seed, asked.rates[0], asked.epochs)
        for dataset in bench.splits
        for method in asked.methods
        for seed in asked.setting.seeds
    ]
    with Experiment(asked.setting, asked.options, tasks) as experiment:
        budget = asked.trial_epochs, asked.trial_seeds
        learned, tried = learn_at_best_rates(experiment, tasks, bench, asked.rates, *budget)
        return experiment.report(lambda comparison: results_of(comparison, learned, bench.splits, tried, asked.options))
