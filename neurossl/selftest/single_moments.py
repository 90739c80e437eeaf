"""Checks of what a rule says of a single moment; see `neurossl.selftest.contract`."""

import copy

import torch
from torch import Tensor

from neurossl.errors import DivergenceError, LocalityError, NeurosslError
from neurossl.events import Fixation, Moment, Neuromodulation
from neurossl.plasticity import Rule
from neurossl.plasticity.audit import audit
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
        "says something else when asked again of the same moment: it remembers something in a global variable or an "
        "attribute, or looks at the clock; declare what it remembers in its state and return Credit(state={...})"
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
        f"with the observers in another order the update differs by {difference:.1e}: what a row says must not depend on "
        "its place; find the other view through Fixation.partner, others through Saccade.negatives"
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


def _same(one: dict[str, tuple[Tensor, ...]], other: dict[str, tuple[Tensor, ...]]) -> bool:
    """Return whether two sets of updates are equal bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True)
    )


def _audited(case: Case, rule: Rule) -> None:
    with torch.no_grad():
        audit(rule, case.activity(), case.moment, case.memory())
