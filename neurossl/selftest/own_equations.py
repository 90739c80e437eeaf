"""Checks of a rule against its own factors, loss and reference; see `neurossl.selftest.contract`."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurossl.dynamics import Circuit
from neurossl.engine import Weights
from neurossl.plasticity import Rule, losses, make_rule, settle
from neurossl.plasticity.factors import update as update_of
from neurossl.plasticity.memory import Memory
from neurossl.plasticity.proposal import wired
from neurossl.selftest.cases import TOLERANCE, Case, Updates, deviation, summed_updates
from neurossl.selftest.verdicts import Fails, Skips


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
            f"a small step along the update raises the loss at {worst!r} (slope {slopes[worst]:+.2g}, where its own "
            "gradient has -1): credit is minus the derivative of a row's loss with respect to the activity"
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


@contextmanager
def _stepped(circuit: Circuit, along: Updates, step: float) -> Iterator[None]:
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
