"""One feedforward sweep: every population responds once, from the retina to the top.

a = sum over pathways of  W x + b        z = rho(a), pooled
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from neurossl.dynamics.activity import Activity
from neurossl.engine.responses import Response, chunks, respond

if TYPE_CHECKING:
    from neurossl.dynamics.circuit import Circuit


class Sweep:
    """The dynamics of one feedforward sweep per moment.

    Attributes
    ----------
    name : str
    """

    name = "sweep"

    def respond(self, circuit: Circuit, stimulus: Tensor) -> Activity:
        """Return the activity that a stimulus evokes."""
        return sweep(circuit, stimulus)

    def respond_along(self, circuit: Circuit, stimulus: Tensor) -> Iterator[tuple[str, Activity]]:
        """Yield every population as soon as it has responded."""
        return sweep_along(circuit, stimulus)

    def describe(self) -> dict[str, object]:
        """Return what a stored run says about the dynamics."""
        return {"dynamics": self.name}

    def __repr__(self) -> str:
        return "Sweep()"


def sweep(
    circuit: Circuit,
    stimulus: Tensor,
    values: Mapping[str, Tensor] | None = None,
    first: Activity | None = None,
    errors: Mapping[str, Tensor] | None = None,
) -> Activity:
    """Return the activity of one feedforward sweep.

    Parameters
    ----------
    circuit : Circuit
    stimulus : Tensor, (rows, *input shape)
    values : mapping of Tensor, (rows, *population shape), optional
        What populations send upwards in place of their activity (value neurons of predictive coding).
    first : Activity, optional
        An earlier sweep of the same stimulus with the same weights: populations that are sent the very same tensors as
        then respond as then.
    errors : mapping of Tensor, (rows, *population shape), optional
        What populations send on top of that (error-optimised predictive coding).

    Raises
    ------
    NetworkError
        If the stimulus does not have the shape of the input population.
    """
    network = circuit.network
    shown = circuit.on_inputs(stimulus) if first is None else {p.name: first.source[p.name] for p in network.inputs}
    output, source = dict(shown), dict(shown)
    responses: dict[str, Response] = {}
    presynaptic: dict[str, Tensor] = {}
    for name in network.order:
        incoming = circuit.incoming(name)
        if first is not None and all(source[p.pathway.pre] is first.source[p.pathway.pre] for p in incoming):
            presynaptic.update({p.name: first.presynaptic[p.name] for p in incoming})
            responses[name] = first.responses[name]
        else:
            presynaptic.update({p.name: p.presynaptic(source[p.pathway.pre]) for p in incoming})
            responses[name] = _response(circuit, name, presynaptic)
        output[name] = responses[name].activity
        held = name in circuit.manipulations and circuit.manipulations[name].holds
        source[name] = output[name] if values is None or held else values.get(name, output[name])
        if errors is not None and name in errors and not held:
            source[name] = source[name] + errors[name]
    return Activity(circuit, output, responses, presynaptic, source)


def sweep_along(circuit: Circuit, stimulus: Tensor) -> Iterator[tuple[str, Activity]]:
    """Yield every population as soon as it has responded, with an activity of what is there at that moment.

    The activity of a population is let go when all that it drives have responded. Weights of pathways onto a population
    may change as soon as it has been yielded.

    Parameters
    ----------
    circuit : Circuit
    stimulus : Tensor, (rows, *input shape)

    Raises
    ------
    NetworkError
        If the stimulus does not have the shape of the input population.
    """
    network = circuit.network
    source = circuit.on_inputs(stimulus)
    waiting = {name: len(network.outgoing(name)) for name in network.populations}
    for name in network.order:
        incoming = circuit.incoming(name)
        presynaptic = {p.name: p.presynaptic(source[p.pathway.pre]) for p in incoming}
        response = _response(circuit, name, presynaptic)
        source[name] = response.activity
        yield name, Activity(circuit, {name: response.activity}, {name: response}, presynaptic, source)
        for projection in incoming:
            pre = projection.pathway.pre
            waiting[pre] -= 1
            if not waiting[pre]:
                del source[pre]


def _response(circuit: Circuit, name: str, presynaptic: Mapping[str, Tensor]) -> Response:
    """Return the response of a population to what its pathways add up to; large maps some rows at a time."""
    incoming, population = circuit.incoming(name), circuit.network.populations[name]
    manipulation = circuit.manipulations.get(name)
    parts = []
    some_rows = chunks(population, len(presynaptic[incoming[0].name]))
    for some in some_rows:
        seen = [presynaptic[p.name] if len(some_rows) == 1 else presynaptic[p.name][some] for p in incoming]
        total = incoming[0].drive(seen[0])
        for projection, x in zip(incoming[1:], seen[1:], strict=True):
            total.add_(projection.drive(x))
        if manipulation is not None:
            total = manipulation.of_drive(total)
        parts.append(respond(population, total))
    response = parts[0] if len(parts) == 1 else Response.joined(parts)
    return response if manipulation is None else manipulation.of_response(response)
