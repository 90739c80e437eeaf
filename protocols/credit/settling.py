"""What error units do while predictive coding settles, under any objective at the top.

The value neurons of a row descend ``F = 1/2 sum ||e_l||^2 + loss(mu_L)``. To first order in the top error, errors settle
to what backprop would carry down; what is lost beyond that depends on how strong the top error is relative to the activity
that it moves, on how it changes while the activity moves, and on the gates that open and close on the way.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.engine.projections import ApicalProjection
from neurossl.engine.weights import Parameters, Weights
from neurossl.events import Fixation, Moment, Saccade
from neurossl.measures import compare_updates
from neurossl.plasticity import Contrastive, Objective, PredictiveCoding, Rule
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, Site
from neurossl.plasticity.proposal import evaluate, propose, settle


class Scaled(Objective):
    """An objective times a factor: the precision of the top error. The pathways of the objective learn as without it.

    Parameters
    ----------
    objective : Objective
    factor : float
    """

    def __init__(self, objective: Objective, factor: float) -> None:
        self.objective = objective
        self.factor = factor
        self.name = objective.name
        self.needs = objective.needs
        self.awaits = objective.awaits
        self.normalisation = objective.normalisation

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return credit and losses times the factor."""
        found = self.objective.credit(site, moment)
        assert found.activity is not None, "objectives at the top give credit on the activity"
        losses = {name: self.factor * loss for name, loss in found.losses.items()}
        return Credit(self.factor * found.activity, feedback=found.feedback, losses=losses)


class HeldForce(Objective):
    """A force on the activity that does not change while it moves: ``loss = -force . z``, as when gamma is held fixed.

    Parameters
    ----------
    objective : Objective
        Whose credit before settling is the force.
    force : Tensor, (rows, *population shape)
    """

    def __init__(self, objective: Objective, force: Tensor) -> None:
        self.force = force
        self.name = f"{objective.name}, gamma held"
        self.needs = objective.needs
        self.awaits = objective.awaits

    def credit(self, site: Site, moment: Moment) -> Credit:
        """Return the force."""
        loss = -(self.force * site.activity).flatten(1).sum(1).mean()
        return Credit(self.force, losses={"loss": loss})


class GradedPredictiveCoding(PredictiveCoding):
    """Predictive coding whose top error is scaled to a fraction of the top activity before it settles.

    The gain is one scalar per moment, ``strength mean|z_L| / mean|e_L|``; the synapses learn from the errors divided by it.
    In the limit of weak errors this is backprop (rules of Whittington & Bogacz 2017, Millidge et al. 2022).

    Parameters
    ----------
    objective : Objective
    strength : float
        Norm of the top error relative to the top activity.
    **settling
        As for `PredictiveCoding`.
    """

    def __init__(self, objective: Objective, strength: float, **settling: Any) -> None:
        super().__init__(objective, **settling)
        self.strength = strength
        self.needs = self.needs | {"other observers"}  # the gain is one for all of them
        self.transport = f"predictive coding, top error {100 * strength:g} % of the activity"

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what has settled, the errors divided by the gain."""
        error = self.top_credit(scope, moment).activity
        assert error is not None, "objectives at the top give credit on the activity"
        norm = _row_norms(error).mean()
        above = _row_norms(scope.site(scope.top).activity).mean()
        gain = float(self.strength * above / norm) if float(norm) > 0 else 1.0
        inner = PredictiveCoding(Scaled(self.objective, gain), self.steps, self.rate, self.schedule, self.feedback)
        for settled in inner.settling(scope, moment):
            yield settled.settled({n: settled.site(n).error / gain for n in settled.populations}, settled._activity.notes)


def restore(network: Network, tree: xr.DataTree, snapshot: int, seed: int, device: str) -> Circuit:
    """Return a network with the weights of a stored snapshot, in float64.

    Parameters
    ----------
    network : Network
        Wired by the rule that learned.
    tree : DataTree
        From `analysis.open_trajectory`.
    snapshot : int
        Position along the snapshot axis.
    seed : int
        Of the weights that were not recorded, since they never changed.
    device : str
    """
    given = {}
    for group in tree["weights"].children.values():
        stored = group.to_dataset().isel(snapshot=snapshot)
        bias = torch.from_numpy(np.array(stored["bias"])) if "bias" in stored else None
        given[str(group.attrs["pathway"])] = Parameters(torch.from_numpy(np.array(stored["weight"])), bias)
    return Circuit(network, Weights.draw(network, seed, device, "float64", given))


def trace(
    objective: Objective,
    reference: Rule,
    circuit: Circuit,
    moment: Moment,
    *,
    rate: float,
    wanted: Collection[int],
    strength: float | None = None,
    held: bool = False,
) -> Iterator[dict[str, Any]]:
    """Let a network settle without learning and yield what its error units do.

    Parameters
    ----------
    objective : Objective
    reference : Rule
        Backprop of the same objective, whose update is the one to compare with.
    circuit : Circuit
        Of a network wired by both; float64 for small errors.
    moment : Moment
    rate : float
    wanted : collection of int
        After how many steps to look; 0 is the state before settling.
    strength : float, optional
        Scale the top error to this fraction of the top activity.
    held : bool
        Hold the top error fixed while the activity moves.

    Yields
    ------
    dict
        step; strength (norm of the top error over that of the top activity, before settling); energy (per row, of what
        settles); loss (of the objective); top error left (its norm over that before settling); error (norm per population);
        displacement (``|v_l - v0_l| / |v0_l|`` per population) and that of the top prediction; update (the measures of
        `compare_updates` per pathway); gates changed (share of neurons below the top that became active or silent); for a
        hinge, mean scores and the shares of fixations and saccades with ``gamma != 0``.
    """
    network = circuit.network
    moment = moment.to(circuit.device, circuit.weights.dtype)
    activity = circuit.sweep(moment.require(Fixation, by="trace").stimulus)
    expected = {name: u.weight for name, u in propose(reference, activity, moment) if name in network.feedforward}
    options: dict[str, Any] = {"steps": max(wanted) + 1, "rate": rate, "schedule": "incremental"}
    natural = PredictiveCoding(objective, **options)

    def at_top(state: Activity) -> Credit:
        return evaluate(natural, state, moment)[network.top]

    error = at_top(activity).activity
    assert error is not None, "objectives at the top give credit on the activity"
    rule = natural if strength is None else GradedPredictiveCoding(objective, strength, **options)
    if held:
        rule = PredictiveCoding(HeldForce(objective, error), **options)
    for step, scope in enumerate(settle(rule, activity, moment, is_watched=True)):
        if step not in wanted:
            continue
        settled = scope._activity
        if not all(bool(z.isfinite().all()) for z in settled.output.values()):
            return
        proposed = {name: u.weight for name, u in propose(rule, scope, moment) if name in expected}
        yield {
            "step": step,
            "energy": float(settled.notes["energy"][-1]),
            "loss": float(at_top(settled).loss),
            "strength": _relative(error, activity[network.top]),
            "top error left": float(_row_norms(settled.errors[network.top]).mean() / _row_norms(error).mean()),
            "error": {n: float(_row_norms(e).mean()) for n, e in settled.errors.items()},
            "displacement": {n: _relative(settled.source[n] - activity[n], activity[n]) for n in network.order[:-1]},
            "top displacement": _relative(settled[network.top] - activity[network.top], activity[network.top]),
            "update": {n: compare_updates(proposed[n], expected[n]) for n in network.feedforward if n in proposed},
            "gates changed": _gates_changed(activity, settled),
            **_open_gates(objective, circuit, activity, settled, moment),
        }


def _row_norms(values: Tensor) -> Tensor:
    return values.flatten(1).norm(dim=1)


def _relative(change: Tensor, activity: Tensor) -> float:
    """Return the mean norm of a change over the mean norm of the activity."""
    return float(_row_norms(change).mean() / _row_norms(activity).mean().clamp(min=1e-30))


def _gates_changed(before: Activity, after: Activity) -> float:
    """Return the share of neurons, over populations below the top, that became active or silent."""
    names = before.circuit.network.order[:-1]
    changed = sum(int(((before[n] > 0) != (after[n] > 0)).sum()) for n in names)
    return changed / sum(before[n].numel() for n in names)


def _open_gates(
    objective: Objective, circuit: Circuit, before: Activity, after: Activity, moment: Moment
) -> dict[str, float]:
    """Return the mean scores, and the shares of fixations and saccades from which a hinge still learns."""
    if not isinstance(objective, Contrastive) or objective.contrast != "hinge":
        return {}
    top = circuit.network.top
    projection = circuit[objective.pathway_names(top, top)[0]]
    assert isinstance(projection, ApicalProjection), "predictions are dense"
    prediction = projection.apical(projection.signal(before[top]))
    response = projection.at_dendrite(after[top])
    partner = moment.require(Fixation, by="trace").partner
    negatives = moment.require(Saccade, by="trace").negatives
    assert partner is not None, "moments of view pairs are batched"
    assert negatives is not None, "and have negatives"
    fixation, saccade = (response[partner] * prediction).sum(1), (response[negatives] * prediction).sum(2)
    return {
        "fixations open": float((fixation < 1).double().mean()),
        "saccades open": float((saccade > -1).double().mean()),
        "score after fixations": float(fixation.mean()),
        "score after saccades": float(saccade.mean()),
    }
