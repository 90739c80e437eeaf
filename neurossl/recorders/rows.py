"""Some observers of a moment: their events, their activity, what a rule remembers of them.

A half of the observers is a moment in itself: both views of an object, or a wake and its sleep, stay together, partners are
rows of the half, and a saccade that landed outside lands on a row of the half on which no other does.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.errors import EventError
from neurossl.events import Event, Fixation, Moment, Phase, Saccade, Succession, parts_of
from neurossl.plasticity.memory import Memory

if TYPE_CHECKING:
    from neurossl.plasticity.rule import Rule


def rows_of(moment: Moment) -> int:
    """Return the number of rows of a moment."""
    return len(moment.require(Fixation, by="some observers of a moment").stimulus)


def observers_of(moment: Moment) -> Tensor:
    """Return which observer each row is of, (rows,), numbered from 0 on the host.

    Rows that are each other's partner are of one observer. Without partners: those a number of observers apart, where the
    moment says that it has fewer observers than rows; the n-th awake and the n-th asleep, where there are as many of both;
    otherwise each row is one.
    """
    fixation = moment.require(Fixation, by="some observers of a moment")
    rows = rows_of(moment)
    alone = torch.arange(rows)
    if fixation.partner is not None:
        return _joined(fixation.partner.cpu())
    if 0 < moment.observers < rows and rows % moment.observers == 0:
        return alone % moment.observers
    phase = moment.get(Phase)
    if phase is not None:
        awake, asleep = ((phase.sign.cpu() * sign > 0).nonzero()[:, 0] for sign in (1, -1))
        if len(awake) == len(asleep):
            alone[asleep] = awake.clone()
            return alone.unique(return_inverse=True)[1]
    return alone


def _joined(partner: Tensor) -> Tensor:
    """Return the number of the group of every row, where partners are of one group."""
    label = torch.arange(len(partner))
    while True:
        spread = torch.minimum(label, label[partner])
        spread = spread.scatter_reduce(0, partner, spread.clone(), "amin")
        if torch.equal(spread, label):
            return label.unique(return_inverse=True)[1]
        label = spread


def halves(moment: Moment, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the rows of two random halves of the observers, in their order; of an odd number one is left out.

    Raises
    ------
    EventError
        If there are too few: a half needs an observer, and another where observers are compared.
    """
    observers = observers_of(moment)
    count = int(observers.max()) + 1
    least = 4 if moment.require(Fixation, by="halves").partner is not None else 2
    if count < least:
        raise EventError(f"halves of the observers: expected at least {least} observers, got {count}")
    order = torch.randperm(count, generator=generator)
    parts = order[: count // 2], order[count // 2 : 2 * (count // 2)]
    first, second = (torch.isin(observers, part).nonzero()[:, 0] for part in parts)
    return first, second


def some_observers(moment: Moment, most: int, generator: torch.Generator) -> Tensor:
    """Return the rows of so many random observers, or of all where there are no more, in their order."""
    observers = observers_of(moment)
    chosen = torch.randperm(int(observers.max()) + 1, generator=generator)[:most]
    return torch.isin(observers, chosen).nonzero()[:, 0]


def moment_of(moment: Moment, rows: Tensor) -> Moment:
    """Return the moment of some rows; of whole observers, where they have partners.

    Parameters
    ----------
    moment : Moment
    rows : Tensor of int, (some rows,)
        Ascending, on the host.

    Raises
    ------
    EventError
        If the partner of a row is left out, or no other observer is left on whom a saccade could land.
    """
    total = rows_of(moment)
    place = torch.full((total,), -1)
    place[rows] = torch.arange(len(rows))
    events = [_event_of(event, moment, rows, place) for event in moment._events.values()]
    observers = len(observers_of(moment)[rows].unique()) if moment.observers else None
    return Moment(*events, duration=moment.duration, observers=observers)


def _event_of(event: Event, moment: Moment, rows: Tensor, place: Tensor) -> Event:
    """Return what happens to some rows; ``place`` is where each row then stands, or -1."""
    chosen = copy(event)
    vars(chosen).pop("_one_hot", None)
    for part in parts_of(type(event)):
        value = getattr(event, part)
        if not isinstance(value, Tensor):
            continue
        here = rows.to(value.device)
        if isinstance(event, Fixation) and part == "stimulus":
            value = value[here]
        elif isinstance(event, Fixation) and part == "partner":
            partner = place[value.cpu()[rows]]
            if bool((partner < 0).any()):
                raise EventError("some rows of a moment: the partner of one of them is left out; choose whole observers")
            value = partner.to(value.device)
        elif isinstance(event, Saccade) and part == "negatives":
            several = value.cpu() if value.ndim == 2 else value.cpu()[None]
            within = torch.stack([_landed(one, moment, rows, place) for one in several])
            value = (within if value.ndim == 2 else within[0]).to(value.device)
        elif isinstance(event, Succession) and part == "later":
            later = value.cpu()[:, rows]
            value = torch.where(later < 0, -1, place[later.clamp(min=0)]).to(value.device)
        elif isinstance(event, Succession) and part == "elsewhere":
            within = torch.stack([_landed(one, moment, rows, place) for one in value.cpu().flatten(0, 1)])
            value = within.view(*value.shape[:2], -1).to(value.device)
        elif value.ndim and value.shape[-1] == len(place):
            value = value[..., here]
        object.__setattr__(chosen, part, value)
    return chosen


def _landed(landing: Tensor, moment: Moment, rows: Tensor, place: Tensor) -> Tensor:
    """Return where the saccades from some rows land within them, (some rows,).

    Those that land outside are given the rows on which nobody lands, of the same view where there is one, never of the own
    observer: where every row was landed on once, every row is again.
    """
    observers = observers_of(moment)
    view = _rank(observers)[rows]
    wanted, owner = landing[rows], observers[rows]
    inside = place[wanted]
    outside = (inside < 0).nonzero()[:, 0].tolist()
    taken = set(inside[inside >= 0].tolist())
    free = [row for row in range(len(rows)) if row not in taken]
    view_of, owner_of = view.tolist(), owner.tolist()
    view_wanted = _rank(observers)[wanted].tolist()
    for here in outside:
        candidates = [row for row in free if owner_of[row] != owner_of[here]]
        if not candidates:
            after = [(here + step) % len(rows) for step in range(1, len(rows))]
            candidates = [row for row in after if owner_of[row] != owner_of[here]]
        if not candidates:
            raise EventError("some rows of a moment: no other observer is left on whom a saccade could land")
        chosen = next((row for row in candidates if view_of[row] == view_wanted[here]), candidates[0])
        inside[here] = chosen
        if chosen in free:
            free.remove(chosen)
    return inside


def _rank(observers: Tensor) -> Tensor:
    """Return of every row how many rows of its observer come before it: 0 for the first view."""
    order = torch.argsort(observers, stable=True)
    sorted_ = observers[order]
    first = torch.searchsorted(sorted_, sorted_)
    rank = torch.empty_like(observers)
    rank[order] = torch.arange(len(observers)) - first
    return rank


def activity_of(activity: Activity, rows: Tensor) -> Activity:
    """Return the activity of some rows; populations respond row by row, so it is what they would evoke alone."""
    some = rows.to(next(iter(activity.output.values())).device)
    known: dict[int, Tensor] = {}

    def chosen(tensor: Tensor) -> Tensor:
        # What was one tensor stays one: whoever settles asks whether a value is the very activity.
        if id(tensor) not in known:
            known[id(tensor)] = tensor[some]
        return known[id(tensor)]

    def of(tensors: Mapping[str, Tensor] | None) -> Any:
        return None if tensors is None else {name: chosen(tensor) for name, tensor in tensors.items()}

    responses = {
        name: response._replace(**{k: chosen(v) for k, v in response._asdict().items() if v is not None})
        for name, response in activity.responses.items()
    }
    return activity.with_changes(
        output=of(activity.output),
        responses=responses,
        presynaptic=of(activity.presynaptic),
        source=of(activity.source),
        context=of(activity.context),
        traced=None if activity.traced is None else activity.traced[some],
        errors=of(activity.errors),
    )


def memory_of(memory: Memory, rule: Rule, rows: Tensor | None = None) -> Memory:
    """Return what a rule remembers of some rows, and generators that stand where its own do: to try things on.

    Parameters
    ----------
    memory : Memory
    rule : Rule
        Says what is remembered by row (`Rule.state`).
    rows : Tensor of int, optional
        All by default.
    """
    found = Memory(memory._generators.copy())
    by_row = [item for item, kind in rule.state.items() if kind in ("rows", "synapses")]
    for key, tensor in memory.tensors.items():
        has_rows = any(key.endswith(f"/{item}") or f"/{item}/" in key for item in by_row)
        found.tensors[key] = tensor[rows.to(tensor.device)] if rows is not None and has_rows else tensor
    return found
