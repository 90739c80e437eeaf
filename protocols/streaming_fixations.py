"""One observer, one fixation at a time: does CLAPP learn online, from saccades and a neuromodulator, as in the biology?

An animal looks at an object for some fixations of 250 ms, then makes a saccade to another. The context of a fixation is the
trace of the one before; the neuromodulator has one sign per moment, + within the object and - after a saccade (Illing et al.
2021, arXiv 2010.08262). Compared: lateral and direct-feedback context, a lesion of the direct feedback half way, and two
controls that should not learn to separate fixations from saccades: a shuffled saccade signal, and none.
"""

from typing import Unpack

import analysis
from neurossl.errors import OptionError
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.settings import settle
from protocols.harness.shared import Single, reject_unknown
from protocols.streaming.animals import CONDITIONS, EXCERPT, animal
from protocols.streaming.results import results_of

USUAL = {"dataset": "digits", "network": 128, "budget": 6000, "seeds": 3}
TINY = {"network": "mlp:16-16-16-16", "budget": 96, "seeds": 1}


@defaults(**USUAL)
def run(out: str, *, fixations: int = 4, fixation: float = 0.25, **common: Unpack[Single]) -> analysis.Results:
    """Let one observer at a time learn online from fixations, saccades and a neuromodulator.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    fixations : int
        Fixations on an object before the saccade to the next.
    fixation : float
        Duration of a fixation, seconds.
    **common
        See `protocols.harness.shared.Single`; the budget is the number of fixations per animal, of which there is one per
        condition and seed.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when an animal could not finish.
    """
    reject_unknown(common, Single)
    if fixations < 2:
        raise OptionError(f"fixations: expected at least 2 per object, one of them within it, got {fixations}")
    if not 1e-6 <= fixation <= 604_800:
        raise OptionError(f"fixation: expected a duration > 0 s and at most a week, such as 0.25, got {fixation}")
    setting = settle(out, "streaming_fixations", common, USUAL, TINY)
    least = 2 * EXCERPT * fixations
    if setting.budget > 10**7:
        raise OptionError(f"budget: expected at most {10**7:,} fixations per animal (a month), got {setting.budget:,}")
    if setting.budget < least:
        raise OptionError(
            f"budget: expected at least {least} fixations, enough for {2 * EXCERPT} objects, got {setting.budget}"
        )
    if setting.stored.get("budget", setting.budget) != setting.budget:
        raise OptionError(
            f"budget: {setting.out} was made with {setting.stored['budget']} fixations, half of them before the lesion; "
            "a longer life is another experiment: choose a new folder"
        )
    animals = [animal(setting, condition, seed, fixations, fixation) for condition in CONDITIONS for seed in setting.seeds]
    options = setting.options(fixations=fixations, fixation=fixation)
    with Experiment(setting, options, animals, "animals") as experiment:
        experiment.learn()
        labels = {condition.name: condition.label for condition in CONDITIONS}
        return experiment.report(lambda comparison: results_of(comparison, labels, options))
