"""Whether a rule looks at other observers: found by changing them.

A site holds the activity of all observers at once, which is what makes it fast. A rule that has not declared "other
observers" must give every observer the credit that it would have alone. So the same rule is asked twice, the second
time with all observers exchanged that this one does not depend on by what the rule has declared.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.errors import LocalityError
from neurossl.events import Fixation, Moment, Saccade
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.needs import NEEDS
from neurossl.plasticity.rule import Rule


def audit(rule: Rule, activity: Activity, moment: Moment, memory: Memory) -> None:
    """Refuse a rule whose credit of one observer changes with the activity of others, unless it has declared that.

    Parameters
    ----------
    rule : Rule
        Only one that says its credit in `Rule.credit_at` is asked.
    activity : Activity
    moment : Moment
    memory : Memory
        Is left as it was.

    Raises
    ------
    LocalityError
        Naming the population, and the remedy.
    """
    says = type(rule).credit_at is not Rule.credit_at and type(rule).credit is Rule.credit
    if not says or rule.needs & {"other observers", "settling"} or activity.rows < 2 or activity.circuit.execution.mapped:
        return
    kept = _depends_on(0, moment, rule.needs)
    others = torch.tensor([row for row in range(activity.rows) if row not in kept], dtype=torch.int64)
    if not len(others):
        return
    exchanged = activity.output[activity.circuit.network.input.name].clone()
    exchanged[others.to(exchanged.device)] = 1.7 * exchanged[others.flip(0).to(exchanged.device)] + 0.3
    changed = activity.circuit.sweep(exchanged.to(activity.circuit.weights.dtype))
    if activity.context is not None:
        context = {name: _exchanged(z, others) for name, z in activity.context.items()}
        changed = changed.with_changes(context=context, traced=activity.traced)
    asked = [_credits(rule, seen, moment, memory) for seen in (activity, changed)]
    for population, credit in asked[0].items():
        one, other = credit[0], asked[1][population][0]
        scale = float(one.abs().max()) + 1e-12
        if not torch.allclose(one, other, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
            declared = ", ".join(sorted(rule.needs)) or "nothing"
            need = "other observers"
            raise LocalityError(
                f"rule {rule.name!r} at {population}: the credit of one observer changes with the activity of others, "
                f"which needs {need!r} ({NEEDS[need]}), but the rule declares {declared}: add {need!r} to its needs, or "
                "keep a running average in its state"
            )


def _exchanged(activity: Tensor, others: Tensor) -> Tensor:
    changed = activity.clone()
    rows = others.to(activity.device)
    changed[rows] = 1.7 * changed[rows.flip(0)] + 0.3
    return changed


def _credits(rule: Rule, activity: Activity, moment: Moment, memory: Memory) -> Mapping[str, Tensor]:
    """Return the credit of every population, from the same random numbers each time."""
    kept = Memory(memory._generators.copy())
    kept.tensors = dict(memory.tensors)
    scope = Scope(activity, rule, kept)
    said = dict(rule.credit(scope, scope.guard(moment)))
    arrived = {name: c.somatic if c.activity is None else c.activity for name, c in said.items()}
    return {name: credit for name, credit in arrived.items() if credit is not None}


def _depends_on(row: int, moment: Moment, needs: frozenset[str]) -> set[int]:
    """Return the rows on which the credit of a row may depend: itself, and the fixations that it is compared with."""
    rows = {row}
    if not needs & {"lateral context", "top-down activity"}:
        return rows
    fixation, saccade = moment.get(Fixation), moment.get(Saccade)
    if fixation is not None and fixation.partner is not None:
        partner = fixation.partner.tolist()
        rows |= {partner[row]} | {r for r, p in enumerate(partner) if p == row}
    if saccade is not None and saccade.negatives is not None:
        for landed in saccade.negatives.reshape(-1, saccade.negatives.shape[-1]).tolist():
            rows |= {landed[row]} | {r for r, target in enumerate(landed) if target == row}
            rows |= {landed[r] for r in list(rows)}
    return rows
