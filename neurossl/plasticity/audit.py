"""Whether a rule looks where it may not, and remembers what it has not declared: found by asking it again.

A site holds the activity of all observers at once, which is what makes it fast, and nothing keeps a rule from carrying a
tensor from one population to the next. So a rule of one's own is asked several times about the first moment of a run:

    again                      it must say the same: chance comes from `Site.generator`, memory is declared in `Rule.state`
    other observers exchanged  each observer must receive the credit that it would have alone, unless "other observers"
    one population alone       each must receive the credit that it would have alone, unless the rule needs several

The rules that come with neurossl are asked in its tests.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.errors import LocalityError, NeurosslError
from neurossl.events import Fixation, Moment, Phase, Saccade, Teaching
from neurossl.plasticity.credit import Credit
from neurossl.plasticity.locality import Scope, handles_several
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.needs import NEEDS
from neurossl.plasticity.proposal import checked, said
from neurossl.plasticity.rule import Rule

Said = dict[str, Tensor]
"""What a rule says that has one value per observer, by population and kind."""


def is_ones_own(rule: Rule) -> bool:
    """Return whether a rule, or its objective, has been written outside of neurossl."""
    parts = [rule, getattr(rule, "objective", rule)]
    return any(not type(part).__module__.startswith("neurossl.") for part in parts)


def audit(rule: Rule, activity: Activity, moment: Moment, memory: Memory) -> None:
    """Refuse a rule that looks or remembers where it may not.

    Parameters
    ----------
    rule : Rule
    activity : Activity
    moment : Moment
    memory : Memory
        Is left as it was.

    Raises
    ------
    LocalityError
        Naming the population, and the remedy.
    """
    if activity.circuit.execution.mapped:
        return
    first = _said_of(rule, activity, moment, memory)
    held = _attributes(rule)
    again = _said_of(rule, activity, moment, memory)
    for name, (value, version) in _attributes(rule).items():
        if name not in held or held[name][0] is not value or held[name][1] != version:
            raise LocalityError(
                f"rule {rule.name!r} remembers {name!r} by itself, which no checkpoint holds: declare it in its state, and "
                "return Credit(state={...})"
            )
    where = _differs(first, again, None)
    if where:
        raise LocalityError(
            f"rule {rule.name!r} at {where}: says something else when asked again: draw random numbers from "
            "site.generator(name), and declare what it remembers in its state"
        )
    _other_observers(rule, activity, moment, memory, first)
    _other_populations(rule, activity, moment, memory, first)


def _other_observers(rule: Rule, activity: Activity, moment: Moment, memory: Memory, first: Said) -> None:
    """Exchange the observers on which one does not depend by what the rule has declared."""
    if "other observers" in rule.needs:
        return
    for row in {0, activity.rows - 1}:
        kept = _depends_on(row, moment, frozenset(rule.needs))
        others = torch.tensor([r for r in range(activity.rows) if r not in kept], dtype=torch.int64)
        if not len(others):
            continue
        changed = _said_of(rule, *_exchanged(activity, moment, others, row), memory)
        where = _differs(first, changed, row)
        if where:
            declared = ", ".join(sorted(rule.needs)) or "nothing"
            need = "other observers"
            raise LocalityError(
                f"rule {rule.name!r} at {where}: what one observer receives changes with the activity of others, which "
                f"needs {need!r} ({NEEDS[need]}), but the rule declares {declared}: add {need!r} to its needs, or keep a "
                "running average in its state and use what is remembered (site.state), not what has just been computed"
            )


def _other_populations(rule: Rule, activity: Activity, moment: Moment, memory: Memory, first: Said) -> None:
    """Ask for the credit of every population alone."""
    if handles_several(rule):
        return
    for population in activity.circuit.network.order:
        try:
            alone = _said_of(rule, activity, moment, memory, population)
        except NeurosslError:
            raise
        except Exception as reason:
            where = f"{population!r} ({type(reason).__name__}: {reason})"
        else:
            expected = {key: value for key, value in first.items() if key.partition("/")[0] == population}
            where = _differs(expected, alone, None)
        if where:
            need = "other populations"
            raise LocalityError(
                f"rule {rule.name!r} at {where}: what it says changes with what it has seen at other populations, which "
                f"needs {need!r} ({NEEDS[need]}): add {need!r} to its needs"
            )


def _said_of(rule: Rule, activity: Activity, moment: Moment, memory: Memory, population: str | None = None) -> Said:
    """Return what a rule says, from the same random numbers each time; nothing is remembered."""
    kept = Memory(memory._generators.copy())
    kept.tensors = dict(memory.tensors)
    scope = Scope(activity, rule, kept, population)
    found: Said = {}
    for phase, settled in enumerate(said(rule.settling, scope, moment, "settling", contents=True)):
        seen: set[str] = set()
        for name, credit in said(rule.credit, settled, moment, "credit", contents=True):
            checked(settled, name, credit, seen)
            found |= {f"{name}/{phase}/{kind}": tensor.detach().clone() for kind, tensor in _per_row(credit, rule)}
    scope.end()
    return found


def _per_row(credit: Credit, rule: Rule) -> Iterator[tuple[str, Tensor]]:
    """Yield the parts of a credit that have one value per row."""
    parts: dict[str, Tensor | None] = {"activity": credit.activity, "soma": credit.somatic}
    if credit.decay is not None and credit.decay.ndim == 2:
        parts["decay"] = credit.decay
    parts |= {f"synaptic {name}": change for name, change in credit.synaptic.items()}
    for name, value in credit.state.items():
        if rule.state.get(name) in ("rows", "synapses"):
            several = value if isinstance(value, Mapping) else {"": value}
            parts |= {f"state {name} {pathway}": tensor for pathway, tensor in several.items()}
    for kind, tensor in parts.items():
        if tensor is not None and tensor.ndim:
            yield kind, tensor


def _differs(one: Said, other: Said, row: int | None) -> str:
    """Return the population at which two answers differ, for one row or all of them; empty where they do not."""
    for key in [*one, *(key for key in other if key not in one)]:
        if key not in one or key not in other or one[key].shape != other[key].shape:
            return repr(key.partition("/")[0])
        mine, theirs = (one[key], other[key]) if row is None else (one[key][row], other[key][row])
        if not mine.is_floating_point():
            mine, theirs = mine.double(), theirs.double()
        eps = torch.finfo(mine.dtype).eps
        close = min(64 * eps, eps**0.5)  # the same numbers but for an order of summation
        scale = float(mine.nan_to_num().abs().max()) if mine.numel() else 0.0
        if not torch.allclose(mine, theirs, rtol=close, atol=close * scale + 1e-30, equal_nan=True):
            return repr(key.partition("/")[0])
    return ""


def _exchanged(activity: Activity, moment: Moment, others: Tensor, row: int) -> tuple[Activity, Moment]:
    """Return activity and moment in which some observers see something else, and are told the name that a row is told."""

    def exchanged(tensor: Tensor) -> Tensor:
        changed, rows = tensor.clone(), others.to(tensor.device)
        changed[rows] = 1.7 * tensor[rows.roll(1)] + 0.3
        return changed

    circuit = activity.circuit
    stimulus = exchanged(activity.stimulus)
    seen = circuit.sweep(stimulus)
    if activity.context is not None:
        context = {name: exchanged(z) for name, z in activity.context.items()}
        seen = seen.with_changes(context=context, traced=activity.traced)
    events: list[Fixation | Teaching] = [Fixation(stimulus, moment.require(Fixation, by="the audit").partner)]
    teaching = moment.get(Teaching)
    if teaching is not None:
        labels = teaching.labels.clone()
        labels[others.to(labels.device)] = int(labels[row])
        events.append(Teaching(labels))
    return seen, moment.with_events(*events)


def _attributes(rule: Rule) -> dict[str, tuple[object, int]]:
    """Return the attributes of a rule, and the version of those that are tensors."""
    return {n: (v, v._version if isinstance(v, Tensor) and not v.is_inference() else 0) for n, v in vars(rule).items()}


def _depends_on(row: int, moment: Moment, needs: frozenset[str]) -> set[int]:
    """Return the rows on which what a row receives may depend: itself, and the fixations that it is compared with."""
    rows = {row}
    phase = moment.get(Phase)
    if phase is not None and "phases" in needs:
        # The n-th row awake and the n-th asleep are one observer.
        awake, asleep = (phase.sign > 0).nonzero()[:, 0].tolist(), (phase.sign < 0).nonzero()[:, 0].tolist()
        rows |= {other for pair in zip(awake, asleep, strict=False) if row in pair for other in pair}
    if not needs & {"lateral context", "top-down activity"}:
        return rows
    fixation, saccade = moment.get(Fixation), moment.get(Saccade)
    targets: list[list[int]] = []
    if fixation is not None and fixation.partner is not None:
        targets.append(fixation.partner.tolist())
    if saccade is not None and saccade.negatives is not None:
        targets += saccade.negatives.reshape(-1, saccade.negatives.shape[-1]).tolist()
    # The contexts of which it is a target, itself as a context, and all that these are compared with.
    contexts = {row} | {r for to in targets for r, target in enumerate(to) if target == row}
    return rows | contexts | {to[r] for to in targets for r in contexts}
