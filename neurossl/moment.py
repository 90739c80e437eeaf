"""The order of steps within a moment, written once: for whole, layerwise and replicated learning alike.

    intervene   what was asked for with at(), every() and when(), if its time has come
    present     the stimulus falls on the input population; the populations respond; the previous fixation is the trace
    settle      relaxation, where the rule has one
    modulate    apical input and neuromodulator arrive; every population receives its credit, every synapse its proposal
    reduce      proposals of several processes are joined
    update      the proposed changes are applied
    record      recorders see the state after the update

The result is as if all changes were proposed first and then applied together; a change is applied as soon as nothing later
in the moment depends on the weights.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.dynamics.circuit import Circuit
from neurossl.dynamics.sweep import Sweep
from neurossl.engine.updates import Update
from neurossl.errors import NetworkError
from neurossl.events import Fixation, Moment, Neuromodulation, Saccade, Succession
from neurossl.plasticity.locality import Scope
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import Signals, propose, settle
from neurossl.plasticity.rule import Rule

STEPS: dict[str, str] = {
    "intervene": "what was asked for with at(), every() and when(), if its time has come",
    "present": "the stimulus falls on the input population; the populations respond; the previous fixation is the trace",
    "settle": "relaxation, where the rule has one",
    "modulate": "apical input and neuromodulator arrive; every population receives its credit",
    "reduce": "proposals of several processes are joined; nothing to do in one process",
    "update": "the proposed changes are applied",
    "record": "recorders see the state after the update",
}
"""What happens within one moment, in this order."""

Proposed = tuple[str, Update, Tensor | None]
"""Name of a pathway, its update, and the activity of its postsynaptic population."""
Reduction = Callable[[Iterator[Proposed]], Iterator[Proposed]]


def present(dynamics: Sweep, circuit: Circuit, moment: Moment, trace: dict[str, Tensor] | None) -> Activity:
    """Return the response to the fixation of a moment; online, the previous fixation is its context.

    Parameters
    ----------
    dynamics : Sweep
    circuit : Circuit
    moment : Moment
    trace : dict of Tensor, (rows, *population shape), or None
        Activity during the previous fixation.
    """
    fixation = moment.require(Fixation, by="simulation")
    activity = dynamics.respond(circuit, circuit.stimulus_of(fixation))
    is_online = fixation.partner is None and Succession not in moment
    if is_online and trace is not None and len(next(iter(trace.values()))) == activity.rows:
        seen = activity.output[circuit.network.top].new_ones(activity.rows).bool()
        activity = activity.with_changes(context=trace, traced=seen)
    return activity


def proposals(
    rule: Rule,
    moment: Moment,
    memory: Memory,
    activity: Activity | None = None,
    *,
    dynamics: Sweep | None = None,
    circuit: Circuit | None = None,
    signals: Signals | None = None,
) -> Iterator[Proposed]:
    """Settle and modulate: yield what is to be changed.

    Parameters
    ----------
    rule : Rule
    moment : Moment
    memory : Memory
        What the rule remembers; new values hold once all is applied.
    activity : Activity, optional
        The response of all populations. Without it every population learns as soon as it has responded, and is forgotten
        (`Rule.learns_along`).
    dynamics, circuit : Sweep, Circuit
        What responds, where no activity is given.
    signals : dict, optional
        Is filled with the rule's inner signals.
    """
    if activity is None:
        assert circuit is not None, "somebody has to respond"
        stimulus = circuit.stimulus_of(moment.require(Fixation, by="simulation"))
        for name, response in (dynamics or Sweep()).respond_along(circuit, stimulus):
            for pathway, update in propose(rule, response, moment, memory=memory, population=name, signals=signals):
                yield pathway, update, response.output[name]
        return
    scopes = settle(rule, activity, moment, memory, is_watched=signals is not None)
    first = next(scopes, None)
    if first is None:
        raise NetworkError(f"rule {rule.name!r}: settling() yields nothing: yield the scope, or what has settled")
    second = None if rule.changes_while_settling else next(scopes, None)
    if second is None:
        for scope in chain([first], scopes):
            yield from _modulated(rule, scope, moment, signals)
    else:
        yield from _summed(_modulated(rule, scope, moment, signals) for scope in chain([first, second], scopes))
    first.end()


def _modulated(rule: Rule, scope: Scope, moment: Moment, signals: Signals | None) -> Iterator[Proposed]:
    """Yield what a rule proposes from what has settled."""
    output, pathways = scope._activity.output, scope._network.pathways
    if signals is not None and scope._activity.notes:
        signals["settling"] = dict(scope._activity.notes)
    for pathway, update in propose(rule, scope, moment, signals=signals):
        yield pathway, update, output[pathways[pathway].post]


def _summed(phases: Iterable[Iterator[Proposed]]) -> Iterator[Proposed]:
    """Yield the sum over phases of the update of every pathway."""
    total: dict[str, Proposed] = {}
    for phase in phases:
        for pathway, update, activity in phase:
            known = total.get(pathway)
            total[pathway] = (pathway, update if known is None else known[1].plus(update), activity)
    yield from total.values()


def reduced(proposed: Iterator[Proposed], reduction: Reduction | None = None) -> Iterator[Proposed]:
    """Join the proposals of several processes; in one process they are what they are."""
    return proposed if reduction is None else reduction(proposed)


def update(
    proposed: Iterator[Proposed],
    change: Callable[[str, Update, Tensor | None], None],
    memory: Memory,
    silent: bool = False,
    keep: bool = False,
) -> dict[str, Update]:
    """Apply what is proposed, unless nobody is to learn, and let the rule remember.

    Returns
    -------
    dict of str to Update
        Summed updates by pathway, if they are to be kept.
    """
    kept: dict[str, Update] = {}
    for pathway, proposal, activity in proposed:
        if keep:
            # Computed before the weights change: updates may read what the change is about to overwrite.
            _ = proposal.weight
            known = kept.get(pathway)
            kept[pathway] = proposal if known is None else known.plus(proposal)
        if not silent:
            change(pathway, proposal, activity)
    memory.keep()
    return kept


def is_silent(moment: Moment, rule: Rule, activity: Activity | None = None) -> bool:
    """Return whether nobody is to learn from a moment: then nothing changes, what optimisers remember included.

    The neuromodulator is 0 for every observer; or the rule compares with the fixation before, and there was none.

    Parameters
    ----------
    moment : Moment
    rule : Rule
    activity : Activity, optional
        The response.
    """
    event = moment.get(Neuromodulation)
    if event is not None and event.is_silent(Saccade in moment and "neuromodulator" in rule.needs):
        return True
    if activity is None or not {"lateral context", "top-down activity"}.intersection(rule.needs) or Succession in moment:
        return False
    return moment.require(Fixation, by="simulation").partner is None and activity.traced is None
