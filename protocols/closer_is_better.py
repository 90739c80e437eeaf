"""Does a rule that is closer to backprop make better representations? The same objective, carried down in many ways.

"Closer is better" is often concluded from rules that differ in much else. Here one objective stands at the top, and what
differs is how its credit reaches the populations below: feedback and direct feedback alignment, with signs of the weights
or without, predictive coding that settles for a few steps, for longer, to rest, or with a weak top error, objectives of its
own at every second population or at every one; and backprop itself. Several networks; each way at the learning rate that
suits it, on images held out of the training set. For every population: the cosine of single updates with those of backprop
in the same network, that of the accumulated change of the weights with backprop's own run from the same weights, and what a
linear readout gains by learning. Where backprop is not shown to gain, nothing can be said.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

import analysis
from neurossl.anatomy.architectures import from_description
from neurossl.errors import OptionError
from protocols.credit.closer import Group, results_of
from protocols.credit.conditions import CARRIERS, LONG, OBJECTIVES, Condition, conditions_for
from protocols.credit.rates import choose_rates, rates_of, trial_of, without_test
from protocols.harness.checks import different
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.rules import safe_name
from protocols.harness.settings import Setting, settle
from protocols.harness.shared import Observed, reject_unknown
from protocols.harness.trial import Trial

NETWORKS = ("mlp:128-128-128-128", "mlp:64-64-64", "conv:8M-16M-32")
TINY_NETWORKS = ("mlp:16-16-16", "mlp:12-12-12")
USUAL_OBJECTIVES = ("infonce", "cross-entropy")
USUAL = {"dataset": "digits", "budget": 240, "observers": 64, "seeds": 8}
TINY = {"budget": 4, "observers": 16, "seeds": 2}
STEPS, RATE = 6, 0.05
"""Of predictive coding that is nearly backprop."""


@defaults(**USUAL)
def run(
    out: str,
    *,
    networks: Sequence[str] | None = None,
    objectives: Sequence[str] | None = None,
    transports: Sequence[str] | None = None,
    **common: Unpack[Observed],
) -> analysis.Results:
    """Compare how close rules are to backprop of the same objective with what a readout gains.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    networks : sequence of str, optional
        As conv:32-64M-64-128M; mlp:128-128-128-128, mlp:64-64-64 and conv:8M-16M-32 by default.
    objectives : sequence of str, optional
        infonce, barlow, cross-entropy (supervised), contrastive, prediction; infonce and cross-entropy by default.
    transports : sequence of str, optional
        bp, blocks, fa, fa-sign, dfa, pc, pc-long, pc-rest, pc-weak, local; all by default, and bp always.
    **common
        See `protocols.harness.shared.Observed`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Observed)
    for name, given, known in (("objectives", objectives, OBJECTIVES), ("transports", transports, CARRIERS)):
        if given is not None:
            different(name, given, known)
    if networks is not None:
        different("networks", networks)
    setting = settle(out, "closer_is_better", common, USUAL, TINY)
    described = setting.choose("networks", networks, TINY_NETWORKS if setting.tiny else NETWORKS)
    for network in described:
        if len(from_description(network, setting.images.shape).order) < 2:
            raise OptionError(f"networks: {network} has no population below the top whose alignment could be measured")
    names = setting.choose("objectives", objectives, USUAL_OBJECTIVES)
    kinds = setting.choose("transports", transports, CARRIERS)
    kinds = ["bp", *(kind for kind in kinds if kind != "bp")]
    conditions = [c for n in names for c in conditions_for(n, STEPS, RATE, kinds, (6, LONG[1]) if setting.tiny else LONG)]
    read = (100, 50) if setting.tiny else (5000, 2000)
    places = [replace(setting, network=network) for network in described]
    jobs = [(place, c, seed) for place in places for c in conditions for seed in setting.seeds]
    choosing = without_test(setting.images, setting.observers)
    options = setting.options(networks=described, objectives=names, transports=kinds, rates=list(rates_of(setting)))
    with Experiment(setting, options, [_trial(*job, rates_of(setting)[0], read) for job in jobs]) as experiment:
        tried, best = choose_rates(experiment, described, conditions, choosing, read)
        trials = [_trial(place, c, seed, best[place.network, c.name], read) for place, c, seed in jobs]
        experiment.trials = list(trials)
        experiment.learn()
        groups = [
            Group(place.network, name, tuple(c for c in conditions if c.objective == name))
            for place in places
            for name in names
        ]
        paths = {
            (group.network, group.objective): [
                setting.out / trial.path
                for trial, (place, c, _) in zip(trials, jobs, strict=True)
                if (place.network, c.objective) == (group.network, group.objective) and experiment.finished(trial.path)
            ]
            for group in groups
        }
        return experiment.report(lambda comparison: results_of(groups, paths, tried, best, options))


def _trial(place: Setting, condition: Condition, seed: int, rate: float, read: tuple[int, int]) -> Trial:
    label = f"{condition.label}, {place.network}"
    path = f"{safe_name(place.network)}/{condition.name}/seed-{seed}"
    return trial_of(place, condition, label, seed, rate, read, path)
