"""What a rule says of an activity: updates and, on the way to them, the credit of every population. Nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from neurossl import moment as steps
from neurossl.dynamics.activity import Activity
from neurossl.engine.updates import Update
from neurossl.events import Moment
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.rule import Rule

Change = Callable[[Credit], Credit]


class Heard(NamedTuple):
    """What a rule says of one activity.

    Attributes
    ----------
    updates : dict of str to Update
        By feedforward pathway; summed over the phases of a settling, with the weights held.
    credits : dict of str to Credit
        By population; credit on the activity and at the soma summed over the phases, signals those of the last.
    """

    updates: dict[str, Update]
    credits: dict[str, Credit]


class _Overheard(Rule):
    """A rule of which every credit is noted, and changed on the way where that is asked for."""

    def __init__(self, rule: Rule, change: Change | None = None) -> None:
        self.rule, self.change = rule, change
        self.credits: dict[str, Credit] = {}
        for name in ("name", "needs", "awaits", "state", "normalisation", "learns_along", "changes_while_settling"):
            setattr(self, name, getattr(rule, name))

    def settling(self, scope: Scope, moment: Moment) -> Iterator[Scope]:
        """Yield what the rule settles to."""
        yield from self.rule.settling(scope, moment)

    def credit(self, scope: Scope, moment: Moment) -> Iterator[tuple[str, Credit]]:
        """Yield what the rule says, as it is passed on."""
        for population, said in self.rule.credit(scope, moment):
            passed = said if self.change is None else self.change(said)
            known = self.credits.get(population)
            self.credits[population] = passed if known is None else _sum(known, passed)
            yield population, passed


def _sum(one: Credit, other: Credit) -> Credit:
    """Return the credit of two phases."""
    both = {
        name: getattr(one, name) + getattr(other, name)
        for name in ("activity", "somatic")
        if getattr(one, name) is not None and getattr(other, name) is not None
    }
    return replace(other, **{"activity": None, "somatic": None, **both})


def hear(
    rule: Rule,
    activity: Activity,
    moment: Moment,
    memory: Memory | None = None,
    *,
    change: Change | None = None,
    watched: bool = False,
) -> Heard:
    """Return what a rule says of an activity.

    Parameters
    ----------
    rule : Rule
    activity : Activity
        The response, before any settling.
    moment : Moment
    memory : Memory, optional
        A copy of its own (`rows.memory_of`), if the rule remembers anything.
    change : callable, optional
        Is given every credit and returns what takes its place.
    watched : bool
        Whether the rule is to note its inner signals (`Credit.signals`).
    """
    overheard, feedforward = _Overheard(rule, change), activity.circuit.network.feedforward
    updates: dict[str, Update] = {}
    remembered = Memory() if memory is None else memory
    for pathway, update, _ in steps.proposals(overheard, moment, remembered, activity, signals={} if watched else None):
        if pathway in feedforward:
            known = updates.get(pathway)
            updates[pathway] = update if known is None else known.plus(update)
            _ = updates[pathway].weight  # computed now: what it is computed from may change
    return Heard(updates, overheard.credits)


def random_credit(generator: torch.Generator) -> Change:
    """Return what puts random numbers in the place of credit, every row with the norm that it had.

    What meets them at the synapse stays as it was: presynaptic activity and postsynaptic gate.
    """

    def change(said: Credit) -> Credit:
        somatic = said.somatic if said.activity is None else None
        activity, somatic = (None if t is None else _random_like(t, generator) for t in (said.activity, somatic))
        synaptic = {name: _random_like(t, generator) for name, t in said.synaptic.items()}
        return Credit(activity, somatic, silent=said.silent, decay=said.decay, synaptic=synaptic, rates=said.rates)

    return change


def _random_like(credit: Tensor, generator: torch.Generator) -> Tensor:
    """Return normal numbers, each row with the norm of the row of a credit."""
    drawn = torch.randn(credit.shape, generator=generator, dtype=torch.float32, device="cpu").to(credit.device)
    by_row = drawn.double().flatten(1)
    norms = credit.double().flatten(1).norm(dim=1) / by_row.norm(dim=1).clamp(min=1e-30)
    scaled = (by_row * norms[:, None]).view(credit.shape).to(credit.dtype)
    layout = torch.channels_last if credit.ndim == 4 else torch.contiguous_format
    return scaled.contiguous(memory_format=layout)
