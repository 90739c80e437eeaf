"""Checks of what a rule says of single moments; see `neurossl.selftest.contract`."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurossl.dynamics import Circuit
from neurossl.engine import Weights
from neurossl.errors import DivergenceError, LocalityError, NeurosslError
from neurossl.events import Fixation, Moment, Neuromodulation
from neurossl.plasticity import Rule, losses, make_rule, settle
from neurossl.plasticity.audit import audit
from neurossl.plasticity.factors import update as update_of
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import wired
from neurossl.plasticity.watch import Watch
from neurossl.selftest.cases import OBSERVERS, TOLERANCE, Case, deviation, regrouped, summed_updates
from neurossl.selftest.verdicts import Fails, Notes, Skips

UNASKED = frozenset({"activity held", "label in the stimulus"})
"""Needs that no door asks for: a rule is taken at its word."""


def is_finite(case: Case) -> str:
    """Updates are numbers of the network's type, also where some observers see nothing at all."""
    fixation = case.moment.require(Fixation, by="the self-test")
    dark = fixation.stimulus.clone()
    dark[::OBSERVERS] = 0
    for seen, moment in (
        ("", case.moment),
        (" when an observer sees nothing (a stimulus of 0)", case.moment.with_events(Fixation(dark, fixation.partner))),
    ):
        try:
            updates = case.updates(moment)
        except DivergenceError as reason:
            raise Fails(f"{reason}{seen}") from None
        for name, part in ((name, part) for name, parts in updates.items() for part in parts):
            if not bool(part.isfinite().all()):
                raise Fails(f"the update of {name!r} is NaN or infinite{seen}: look for a division by 0 or a logarithm of 0")
            if part.dtype != case.dtype:
                kinds = f"{part.dtype}, the weights {case.dtype}".replace("torch.", "")
                raise Fails(f"the update of {name!r} is {kinds}: make tensors with .to(site.activity)")
    return "numbers of the network's type, also when an observer sees nothing"


def learns(case: Case) -> str:
    """Some feedforward weight changes in three moments."""
    memory, moved = case.memory(), set()
    for moment in case.moments:
        updates = case.updates(moment, memory=memory)
        memory.keep()
        moved |= {name for name, parts in updates.items() if float(parts[0].abs().max()) > 0}
    plastic = [name for name, p in case.circuit.network.feedforward.items() if p.plastic]
    if not moved.intersection(plastic):
        raise Fails("no feedforward weight changes in three moments: is the credit 0 everywhere, or for no population?")
    still = [name for name in plastic if name not in moved]
    return f"all {len(plastic)} feedforward pathways" if not still else f"all but {', '.join(still)}"


def says_the_same_twice(case: Case) -> str:
    """Asked again of the same moment with the same memory, it says the same."""
    rule = copy.deepcopy(case.rule)
    first, again, third = (case.updates(rule=rule, memory=case.memory(), chance=seed) for seed in (1, 2, 1))
    if _same(first, again) and _same(first, third):
        return "from the same activity and state follows the same update"
    if _same(first, third):
        raise Fails(
            "draws random numbers from a global generator (torch, numpy or random): a run could not be repeated; take "
            "torch.randn(..., generator=site.generator('name')), which belongs to the run's seed"
        )
    raise Fails(
        "says something else when asked again of the same moment: it remembers something in a global variable or an attribute, "
        "or looks at the clock; declare what it remembers in its state and return Credit(state={...})"
    )


def remembers_only_its_state(case: Case) -> str:
    """One that has seen another moment, and one that has not, say the same where their declared state is the same."""
    fresh, used = copy.deepcopy(case.rule), copy.deepcopy(case.rule)
    expected = case.updates(rule=fresh)
    case.updates(case.moments[1], rule=used)
    if not _same(case.updates(rule=used), expected):
        raise Fails(
            "what it says depends on what it has seen before, which its state does not hold: no checkpoint would; declare "
            "it (state = {'mean': 'population'}) and return Credit(state={...})"
        )
    return f"its state: {', '.join(case.rule.state)}" if case.rule.state else "it has none, and remembers nothing"


def observers_in_any_order(case: Case) -> str:
    """The mean over observers is the same when they come in another order."""
    if case.draws():
        raise Skips("it draws random numbers, one after the other for every observer")
    moment, rows = regrouped(case.moment, [2, 4, 1, 0, 3])
    difference = deviation(case.updates(moment, memory=case.memory(rows)), case.updates())
    if difference <= TOLERANCE[case.dtype]:
        return "the mean update is the same"
    if "other observers" in case.rule.needs:
        raise Skips("it compares observers with others, and says which by their order")
    raise Fails(
        f"with the observers in another order the update differs by {difference:.1e}: what a row says must not depend on its "
        "place; find the other view through Fixation.partner, others through Saccade.negatives"
    )


def is_a_mean_over_observers(case: Case) -> str:
    """When every observer is there twice, the mean update is the same."""
    if "other observers" in case.rule.needs:
        raise Skips("it needs 'other observers', of which there would be twice as many")
    if case.draws():
        raise Skips("it draws random numbers for every observer")
    moment, rows = regrouped(case.moment, [*range(OBSERVERS), *range(OBSERVERS)])
    feedforward = case.circuit.network.feedforward
    both = case.updates(), case.updates(moment, memory=case.memory(rows))
    once, twice = ({name: parts for name, parts in updates.items() if name in feedforward} for updates in both)
    difference, feedback = deviation(twice, once), deviation(both[1], both[0])
    if difference > TOLERANCE[case.dtype]:
        doubled = {name: tuple(2 * part for part in parts) for name, parts in once.items()}
        grows = "twice the update: it grows with the number of observers"
        raise Fails(
            f"the same observers twice give {grows if deviation(twice, doubled) < 1e-3 else 'another update'} (deviation "
            f"{difference:.1e}): return the credit of each row by itself, neither a sum over rows nor a multiple of their "
            "number; the mean over rows is taken for you"
        )
    if feedback > TOLERANCE[case.dtype]:
        raise Notes(f"feedback pathways learn otherwise when the same observers are there twice (deviation {feedback:.1e})")
    return "the same observers twice give the same update"


def is_scaled_by_the_neuromodulator(case: Case) -> str:
    """A gain of 0 changes nothing, a gain of 2 doubles the update."""

    def gained(gain: float) -> Moment:
        rows = case.moment.require(Fixation, by="the self-test").stimulus
        return case.moment.with_events(Neuromodulation(torch.full((len(rows),), gain, dtype=case.dtype)))

    remedy = (
        "credit() yields Credit(...).gained(learning_gain(moment)) (neurossl.plasticity.credit); credit_at() has it done"
    )
    silent = case.updates(gained(0))
    moved = [name for name, parts in silent.items() if any(bool(part.any()) for part in parts)]
    if moved:
        raise Fails(f"changes {moved[0]!r} although the neuromodulator is 0 for every observer: {remedy}")
    once, twice = case.updates(), case.updates(gained(2))
    several = [{name: tuple(factor * part for part in parts) for name, parts in once.items()} for factor in (1, 2, 4)]
    as_before, doubled, squared = (deviation(twice, expected) for expected in several)
    if doubled <= TOLERANCE[case.dtype]:
        return "a gain of 0 silences it, a gain of 2 doubles the update"
    if "neuromodulator" in case.rule.needs:
        return "a gain of 0 silences it; what a gain of 2 does is its own, since it reads the neuromodulator"
    if min(as_before, squared) <= TOLERANCE[case.dtype]:
        raise Fails(
            f"with a gain of 2 the update is {1 if as_before < squared else 4} times that with a gain of 1: {remedy}"
        )
    raise Notes(
        f"a gain of 0 silences it, a gain of 2 does not just double the update (deviation {doubled:.1e}): it settles"
    )


def uses_what_it_declares(case: Case) -> str:
    """It looks at nothing that it has not declared: other observers and populations exchanged, it says the same."""
    _audited(case, copy.deepcopy(case.rule))
    return f"declares {', '.join(sorted(case.rule.needs)) or 'nothing beyond the synapse'}"


def needs_what_it_declares(case: Case) -> str:
    """Without any of the needs that it declares it is refused, or says something else."""
    if not case.rule.needs:
        raise Skips("it declares none")
    if case.dtype != torch.float64:
        raise Skips("as in float64")
    expected, unused = case.updates(), []
    for need in sorted(case.rule.needs - UNASKED):
        without = copy.deepcopy(case.rule)
        try:
            without.needs = without.needs - {need}
            if _same(case.updates(rule=without), expected):
                _audited(case, without)
                unused.append(need)
        except (NeurosslError, AttributeError):
            continue
    if unused:
        raise Notes(f"says the same without {', '.join(map(repr, unused))}: leave out what the rule does not need")
    return "it uses all of them"


def changes_nothing(case: Case) -> str:
    """Weights, activity, events and memory are as before, also past the back of torch."""
    memory, activity = case.memory(), case.activity()
    watch = Watch(case.circuit, activity, case.moment, memory.tensors, contents=True)
    try:
        with torch.no_grad():
            summed_updates(copy.deepcopy(case.rule), case.moment, memory, activity)
    except LocalityError as reason:
        raise Fails(str(reason)) from None
    if watch.changed:
        raise Fails(f"changes {watch.changed}: a rule only proposes; copy what is to be changed, and return credit")
    return "weights, activity, events and memory are as before"


def needs_no_autograd(case: Case) -> str:
    """It says the same under inference mode, and no update hangs on a graph."""
    remedy = "rules learn without autograd; write the derivative out, and return it as credit"
    plain = case.updates()
    try:
        with torch.inference_mode():
            inferred = case.updates()
    except RuntimeError as reason:
        raise Fails(f"does not run under torch.inference_mode() ({str(reason).splitlines()[0]}): {remedy}") from None
    with torch.enable_grad():
        graphs = summed_updates(copy.deepcopy(case.rule), case.moment, case.memory(), case.activity())
    hanging = [name for name, parts in graphs.items() if any(part.requires_grad for part in parts)]
    if hanging:
        raise Fails(f"the update of {hanging[0]!r} requires gradients: {remedy}")
    if deviation(inferred, plain) > TOLERANCE[case.dtype]:
        raise Fails(f"says something else under torch.inference_mode(): {remedy}")
    return "the same under torch.inference_mode()"


def factors_make_the_update(case: Case) -> str:
    """What factors() says makes the update that credit() makes, where a rule writes both."""
    if type(case.rule).factors is Rule.factors:
        raise Skips("it says credit alone")
    rule, memory, activity = copy.deepcopy(case.rule), case.memory(), case.activity()
    with torch.no_grad():
        want: dict[str, Tensor] = {}
        for scope in settle(rule, activity, case.moment, memory):
            for population, credit in rule.credit(scope, case.moment):
                if credit.decay is not None or credit.synaptic or credit.rates:
                    raise Skips("its update has parts that are no product of two activities")
                del population
            for population, factors in rule.factors(scope, case.moment):
                for projection in case.circuit.incoming(population):
                    if projection.plastic:
                        seen = scope._activity
                        anatomy, response = case.circuit.network.populations[population], seen.responses[population]
                        found = update_of(factors, anatomy, response, projection, seen.presynaptic[projection.name])
                        want[projection.name] = want.get(projection.name, torch.zeros(()).to(found.weight)) + found.weight
    got = case.updates()
    difference = deviation({name: got[name][:1] for name in want}, {name: (weight,) for name, weight in want.items()})
    if difference > TOLERANCE[case.dtype]:
        raise Fails(f"factors() make another update than credit() (deviation {difference:.1e}): both must say the same")
    return f"gamma * dendrite * slope * presynaptic activity is the update of {len(want)} pathways"


def lowers_its_loss(case: Case) -> str:
    """A small step along the update lowers the loss that evaluate() says, to first order."""
    rule, moment, dtype = copy.deepcopy(case.rule), case.moment, case.dtype
    if type(rule).evaluate is Rule.evaluate:
        raise Skips("it has no evaluate(), which says its loss")
    if dtype != torch.float64:
        raise Skips("as in float64")
    with torch.no_grad():
        held = case.activity()
        stand = [name for name, loss in losses(rule, held, moment, case.memory()).items() if isinstance(loss, Tensor)]
        is_local = rule.transport.startswith("none")
        if not stand:
            raise Skips("evaluate() says no loss")
        if not is_local and (rule.transport != "backprop" or len(stand) > 1):
            raise Skips(f"its credit travels by {rule.transport}: its update need not be the slope of a loss")
        updates, slopes = case.updates(), {}
        for population in stand:
            feedforward = case.circuit.network.feedforward
            along = {
                n: u for n, u in updates.items() if n in feedforward and (not is_local or feedforward[n].post == population)
            }
            steepest = sum(float(part.square().sum()) for parts in along.values() for part in parts)
            if not steepest:
                continue
            trial = case.circuit.with_weights(case.circuit.weights.clone())
            values = []
            for step in (1e-5 / steepest**0.5, -1e-5 / steepest**0.5):
                with _stepped(trial, along, step):
                    free = trial.sweep(held.stimulus)
                    seen = free.with_changes(context=held.held, traced=held.traced), free
                    values.append([float(losses(rule, one, moment, case.memory())[population]) for one in seen])
            # Contexts are held, unless the loss is one of contexts alone.
            fixed, moving = ((up - down) / 2e-5 / steepest**0.5 for up, down in zip(*values, strict=True))
            slopes[population] = fixed or moving
    if not slopes:
        raise Skips("the loss gives no update here")
    worst = max(slopes, key=lambda name: slopes[name])
    if not slopes[worst] < 0:
        raise Fails(
            f"a small step along the update raises the loss at {worst!r} (slope {slopes[worst]:+.2g}, where its own gradient "
            "has -1): credit is minus the derivative of a row's loss with respect to the activity"
        )
    if all(abs(slope + 1) < 1e-3 for slope in slopes.values()):
        return f"by its gradient, at {', '.join(slopes)}"
    return (
        f"slope {min(slopes.values()):.2g} to {slopes[worst]:.2g} at {', '.join(slopes)}, where the gradient itself has -1"
    )


def reference_proposes(case: Case) -> str:
    """The backprop reference proposes on the same activity and events, for pathways that the rule changes."""
    given = case.rule.reference()
    if given is None:
        raise Skips("it names no reference(): give one to compare it with backprop")
    reference = make_rule(given)
    network = wired(reference, case.circuit.network)
    weights = Weights.draw(network, 1, dtype=case.dtype, given=case.circuit.weights)
    with torch.no_grad():
        activity = Circuit(network, weights).sweep(case.activity().stimulus)
        expected = summed_updates(reference, case.moment, Memory(), activity)
    both = [name for name, parts in case.updates().items() if name in expected and bool(expected[name][0].any()) and parts]
    if not both:
        raise Fails(f"its reference {reference.name!r} changes none of the weights that it changes")
    if not all(bool(part.isfinite().all()) for parts in expected.values() for part in parts):
        raise Fails(f"the update of its reference {reference.name!r} is NaN or infinite")
    return f"{reference.name}, for {len(both)} pathways"


def _same(one: dict[str, tuple[Tensor, ...]], other: dict[str, tuple[Tensor, ...]]) -> bool:
    """Return whether two sets of updates are equal bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True)
    )


def _audited(case: Case, rule: Rule) -> None:
    with torch.no_grad():
        audit(rule, case.activity(), case.moment, case.memory())


@contextmanager
def _stepped(circuit: Circuit, along: dict[str, tuple[Tensor, ...]], step: float) -> Iterator[None]:
    """Add a multiple of an update to the weights for a while."""
    held = [
        (name, p, part)
        for name, parts in along.items()
        for p, part in zip(circuit.weights[name].present, parts, strict=True)
    ]
    before = [p.clone() for _, p, _ in held]
    for name, p, part in held:
        p.add_(part, alpha=step)
        circuit.weights.changed(name)
    try:
        yield
    finally:
        for (name, p, _), old in zip(held, before, strict=True):
            p.copy_(old)
            circuit.weights.changed(name)
