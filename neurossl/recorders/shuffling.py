"""Shuffled teaching: the same activity, the same neuromodulators and labels, given to the wrong observers.

What a rule proposes then has all that is not in the teaching: the statistics of the activity, the sizes of the factors.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.errors import EventError
from neurossl.events import Event, Fixation, Moment, Phase, Saccade, Succession, parts_of
from neurossl.recorders.rows import observers_of, rows_of


def shuffled(moment: Moment, activity: Activity, generator: torch.Generator) -> tuple[Moment, Activity]:
    """Return a moment that teaches the wrong observers, and the activity with the traces of others.

    Parameters
    ----------
    moment : Moment
    activity : Activity
    generator : torch.Generator

    Returns
    -------
    moment : Moment
        The partner of a row, its label, its neuromodulator and the rows on which its saccades land are those of another
        observer, who is a different one for everybody; wake and sleep are dealt out anew among all rows.
    activity : Activity
        Where a trace of the fixation before is the context, it is that of another observer.

    Raises
    ------
    EventError
        If there is one observer.
    """
    observers = observers_of(moment)
    count = int(observers.max()) + 1
    if count < 2:
        raise EventError(f"shuffled teaching: expected at least 2 observers, got {count}")
    other = _others(observers, count, generator)
    deal = torch.randperm(rows_of(moment), generator=generator)
    events = [_taught(event, other, deal) for event in moment._events.values()]
    changed = Moment(*events, duration=moment.duration, observers=moment.observers or None)
    if activity.context is None or moment.require(Fixation, by="shuffled teaching").partner is not None:
        return changed, activity
    context = {name: tensor[other.to(tensor.device)] for name, tensor in activity.context.items()}
    traced = None if activity.traced is None else activity.traced[other.to(activity.traced.device)]
    return changed, activity.with_changes(context=context, traced=traced)


def _others(observers: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return for every row one of another observer, in the same place among the rows of theirs: a permutation.

    All observers stand in one random circle, and each is given the next.
    """
    order = torch.randperm(count, generator=generator)
    following = torch.empty(count, dtype=torch.int64)
    following[order] = order.roll(-1)
    rows = [(observers == one).nonzero()[:, 0] for one in range(count)]
    if len({len(mine) for mine in rows}) > 1:
        raise EventError("shuffled teaching: the observers do not have equal numbers of rows")
    other = torch.empty(len(observers), dtype=torch.int64)
    for one in range(count):
        other[rows[one]] = rows[int(following[one])]
    return other


def _taught(event: Event, other: Tensor, deal: Tensor) -> Event:
    """Return an event that teaches the wrong observers."""
    changed = copy(event)
    vars(changed).pop("_one_hot", None)
    back = torch.argsort(other)
    for part in parts_of(type(event)):
        value = getattr(event, part)
        if not isinstance(value, Tensor) or not value.ndim or part == "stimulus" or value.shape[-1] != len(other):
            continue
        by_row = (deal if isinstance(event, Phase) else other).to(value.device)
        value = value[..., by_row]
        if isinstance(event, Fixation) and part == "partner":
            # A pair is of one first and one second view, also when they do not show the same.
            partner, rows = getattr(event, part).cpu(), torch.arange(len(other))
            first = rows < partner
            value = torch.where(first, partner[other], partner[back]).to(value.device)
        if (isinstance(event, Saccade) and part == "negatives") or (isinstance(event, Succession) and part == "elsewhere"):
            value = other.to(value.device)[getattr(event, part)]
        object.__setattr__(changed, part, value)
    return changed
