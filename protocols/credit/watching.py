"""Error units watched while they settle, in the networks that BP and PC have made, read from their stored runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import analysis
from neurossl.dynamics.circuit import Circuit
from neurossl.events import Fixation, Moment
from neurossl.plasticity import Backprop, Objective, PredictiveCoding
from neurossl.plasticity.proposal import settle
from neurossl.stimuli import ViewPairs, default_views
from protocols.credit.conditions import LONG, OBJECTIVES
from protocols.credit.sentences import AT_REST, REST
from protocols.credit.settled import SettledPredictiveCoding
from protocols.credit.settling import restore, trace
from protocols.harness.parallel import Progress
from protocols.harness.settings import Setting
from protocols.harness.trial import network_for

STRENGTHS = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
WATCHED = 3
"""Seeds whose networks are watched."""
SETTLING_RATES = (0.02, 0.05, 0.1, 0.3)


class Watch(NamedTuple):
    """Stored weights whose error units are to be watched."""

    objective: str
    seed: int


def watch(
    job: Watch, progress: Progress, *, folder: Path, setting: Setting, steps: int, rate: float
) -> list[dict[str, Any]]:
    """Let the networks that BP and PC have made settle on held-out images, in float64, and return what was seen.

    Parameters
    ----------
    job : Watch
    progress : callable
    folder : Path
        Of the protocol, with the stored runs.
    setting : Setting
    steps, rate : int, float
        Of the settling of predictive coding.
    """
    images, tiny = setting.images, setting.tiny
    objective = OBJECTIVES[job.objective][1]()
    reference = Backprop(objective)
    observers = min(setting.observers, len(images.test))
    views = default_views(images)
    moment = ViewPairs(images.test, images.test_labels, views, observers=observers, moments=1, seed=job.seed)[0]
    every, long = sorted({*range(steps + 1), *_spread(4 * steps)}), _spread(10 * steps)
    found: list[dict[str, Any]] = []
    for learner in ("PC", "BP"):
        tree = analysis.open_trajectory(folder / f"{job.objective}-{learner.lower()}" / f"seed-{job.seed}")
        network = reference.wire(network_for(reference, images, setting.network))
        moments = next(iter(tree["weights"].children.values())).to_dataset()["snapshot"].values
        looks: list[tuple[str, int, Sequence[int], dict[str, Any]]] = [
            ("training", stage, every, {"rate": rate}) for stage in range(len(moments))
        ]
        if learner == "BP":
            last = len(moments) - 1
            looks += [("rate", last, long, {"rate": r}) for r in (SETTLING_RATES[1:3] if tiny else SETTLING_RATES)]
            longest = _spread(REST * steps)
            looks += [("held", last, longest, {"rate": rate, "held": True}), ("recomputed", last, longest, {"rate": rate})]
            strengths = STRENGTHS[::3] if tiny else STRENGTHS
            looks += [("strength", last, [steps], {"rate": rate, "strength": s}) for s in strengths]
        restored = -1
        for series, stage, wanted, how in looks:
            at = {"objective": job.objective, "seed": job.seed, "learned by": learner, "series": series}
            at |= {"share of training": float(moments[stage] / max(1, moments[-1]))}
            at |= {"rate": how["rate"], "strength set": how.get("strength")}
            if stage != restored:
                restored = stage
                circuit = restore(network, tree, stage, job.seed, setting.device)
            found += [{**at, **seen} for seen in trace(objective, reference, circuit, moment, wanted=wanted, **how)]
            if series == "training":
                found.append({**at, "series": AT_REST, **at_rest(objective, circuit, moment, ((steps, rate), LONG))})
    progress(1)
    return found


def at_rest(
    objective: Objective, circuit: Circuit, moment: Moment, schedules: Sequence[tuple[int, float]]
) -> dict[str, float]:
    """Return after how many steps values are at rest, and which share of the energy lost by then short settling takes.

    Parameters
    ----------
    objective : Objective
    circuit : Circuit
    moment : Moment
    schedules : sequence of (int, float)
        Steps and rates of the short settling.

    Returns
    -------
    dict of str to float
        "steps to rest", and by the name of the schedule such as "6 steps of 0.05", the share.
    """
    moment = moment.to(circuit.device, circuit.weights.dtype)
    activity = circuit.sweep(moment.require(Fixation, by="at_rest").stimulus)

    def energies(rule: PredictiveCoding) -> np.ndarray:
        (scope,) = settle(rule, activity, moment, is_watched=True)
        return np.asarray(scope._activity.notes["energy"], dtype=float)

    whole = energies(SettledPredictiveCoding(objective))
    found = {"steps to rest": float(len(whole) - 1)}
    for steps, rate in schedules:
        short = energies(PredictiveCoding(objective, steps, rate))
        found[f"{steps} steps of {rate:g}"] = float((short[0] - short[-1]) / (whole[0] - whole[-1]))
    return found


def _spread(last: int) -> list[int]:
    """Return about 30 steps from 0 to the last, denser at the beginning, half of the last among them."""
    return sorted({0, last // 2, *(round(x) for x in np.geomspace(1, last, 30))})
