"""The same network asked again and again what it would change, without learning: how much of an update is noise.

found = repeat_updates(simulation, stream, 100)["V1->V2"]
analysis.bias_variance(found["update"], found["reference_update"])
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurossl import moment as steps
from neurossl.checks import whole
from neurossl.errors import OptionError
from neurossl.events import Event, Fixation, Moment
from neurossl.generators import Generators, concern_seed
from neurossl.plasticity import Rule, make_rule
from neurossl.plasticity.memory import Memory
from neurossl.recorders.hearing import hear
from neurossl.simulation import Simulation

if TYPE_CHECKING:
    import xarray as xr


def repeat_updates(
    simulation: Simulation,
    moments: Moment | Event | Iterable[Moment],
    repeats: int | None = None,
    reference: Rule | str | None = None,
) -> dict[str, xr.Dataset]:
    """Return what a rule would change, over and over, with the weights as they are.

    Parameters
    ----------
    simulation : Simulation
        Is left as it is, its random generators included.
    moments : Moment, or iterable of Moment such as a stream
        A single moment is shown again and again: then only what the rule draws at random differs. Several follow each other,
        from the beginning once more where there are fewer than repeats.
    repeats : int, optional
        As many as there are moments by default; 1 for a single one.
    reference : Rule or str, optional
        The rule's own by default; without any there is no ``reference_update``.

    Returns
    -------
    dict of str to Dataset
        By plastic feedforward pathway: ``update`` and ``reference_update``, (repeat, post, pre, ...), ascent directions.

    Raises
    ------
    OptionError
        If there is nothing to show, or the reference needs pathways that the network lacks.

    Notes
    -----
    Each repeat has random generators of its own and what the rule remembers now. All repeats are held in memory.
    """
    import xarray as xr

    rule = simulation.rule
    against = rule.reference() if reference is None else make_rule(reference)
    if against is not None:
        lacking = [n for n in against.wire(simulation.network.copy()).pathways if n not in simulation.network.pathways]
        if lacking:
            raise OptionError(
                f"repeat_updates: reference {against.name!r} needs {lacking[0]!r}, which the simulation lacks: make it with "
                "a recorder of that reference, or choose another"
            )
    if isinstance(moments, Moment | Event):
        shown: list[Moment | Event] = [moments]
    else:
        shown = list(islice(moments, repeats))
    count = len(shown) if repeats is None else whole(repeats, "repeat_updates: repeats")
    if not shown:
        raise OptionError("repeat_updates: the stream yields nothing")
    names = [name for name, pathway in simulation.network.feedforward.items() if pathway.plastic]
    found: dict[str, dict[str, list[np.ndarray]]] = {name: {"update": [], "reference_update": []} for name in names}
    with torch.no_grad(), simulation.exactly():
        for number, given in enumerate(islice(cycle(shown), count)):
            moment = given if isinstance(given, Moment) else Moment(given)
            moment.check()
            moment = moment.to(simulation.device, simulation.dtype)
            fixation = moment.require(Fixation, by="repeat_updates")
            if fixation.inputs:
                moment = moment.with_events(Fixation(simulation.circuit.stimulus_of(fixation), fixation.partner))
            activity = steps.present(simulation.dynamics, simulation.circuit, moment, None)
            memory = Memory(Generators(concern_seed(simulation.seed, f"repeats/{number}")))
            memory.tensors = dict(simulation.memory.tensors)
            mine = hear(rule, activity, moment, memory).updates
            other = {} if against is None else hear(against, activity, moment).updates
            for name in names:
                for variable, updates in (("update", mine), ("reference_update", other)):
                    if name in updates:
                        found[name][variable].append(updates[name].weight.detach().cpu().numpy().copy())
    units = {"units": "1"}
    return {
        name: xr.Dataset(
            {
                variable: (("repeat", *simulation.network.pathways[name].dims), np.stack(values), units)
                for variable, values in parts.items()
                if len(values) == count
            },
            {"repeat": np.arange(count)},
            {"pathway": name},
        )
        for name, parts in found.items()
    }
