"""Checks of runs of a few moments; see `neurossl.selftest.contract`."""

import copy
import json
import warnings

import torch

from neurossl.engine import Execution
from neurossl.errors import OptionError
from neurossl.events import Succession
from neurossl.plasticity import Synapses
from neurossl.provenance import provenance
from neurossl.replicas import Replicas
from neurossl.selftest.cases import TOLERANCE, Case, deviation, global_chance, moment_for
from neurossl.selftest.verdicts import Fails, Skips
from neurossl.simulation import Simulation


def simulated(case: Case, seed: int = 0) -> Simulation:
    """Return a simulation of a copy of the rule."""
    network = case.circuit.network
    return Simulation(
        network,
        copy.deepcopy(case.rule),
        Synapses("sgd", lr=1e-2),
        seed=seed,
        device="cpu",
        dtype=case.dtype,
        execution=Execution(),
    )


def goes_on_from_a_checkpoint(case: Case) -> str:
    """A run that is interrupted half way ends where the undisturbed one does, bit for bit."""
    stream = [*case.moments, *case.moments][:4]
    whole, begun, further = (simulated(case) for _ in range(3))
    with global_chance(0):
        whole.run(stream)
        begun.run(stream[:2])
    with global_chance(1):
        further.restore(begun.state())
        further.run(stream[2:])
    one, other = whole.state().tensors, further.state().tensors
    for name in sorted(one.keys() | other.keys()):
        if name not in one or name not in other or not torch.equal(one[name], other[name]):
            raise Fails(
                f"{name!r} differs after four moments from a run that was interrupted after two: declare what the rule "
                "remembers in its state, and draw random numbers from site.generator(name)"
            )
    return "four moments, or two and two"


def replicas_are_single_runs(case: Case) -> str:
    """Two seeds that are advanced together end where each does alone, or the rule says that it cannot be joined."""
    network = case.circuit.network
    streams = [
        [moment_for(network, 10 * seed + number, Succession in case.rule.awaits) for number in range(3)] for seed in range(2)
    ]
    alone = [simulated(case, seed).run(stream) for seed, stream in enumerate(streams)]
    together = [simulated(case, seed) for seed in range(2)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Replicas(together).run(streams)
    except OptionError as reason:
        return f"seeds run one by one: {reason}"
    for one, other in zip(alone, together, strict=True):
        single, joined = ({name: tuple(held.present) for name, held in s.weights.items()} for s in (one, other))
        difference = deviation(joined, single)
        if difference > (1e-6 if "settling" in case.rule.needs else TOLERANCE[case.dtype]):  # settling amplifies rounding
            raise Fails(
                f"several seeds at once end elsewhere than one by one (deviation {difference:.1e}): compute with tensors, "
                "not with float(...), .item() or what is kept between calls"
            )
    return "two seeds at once end where each does alone"


def is_described(case: Case) -> str:
    """The manifest of a stored run can say which rule it was, with what options."""
    rule = case.rule
    try:
        about = json.loads(json.dumps(provenance(simulated(case), [], {}), allow_nan=False))
    except (TypeError, ValueError) as reason:
        raise Fails(
            f"cannot be written into a stored run ({reason}): describe() must return text, numbers and lists"
        ) from None
    if about["rule"] != rule.name:
        raise Fails(f"describe() says rule {about['rule']!r}, the rule is called {rule.name!r}")
    if not isinstance(rule.name, str) or not rule.name:
        raise Skips("it has no name")
    options = ", ".join(f"{name}={value}" for name, value in about["rule_options"].items())
    return f"{rule.name}{f' ({options})' if options else ''}; objective: {about['objective']}"
