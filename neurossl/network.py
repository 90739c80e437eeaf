"""Networks: populations joined by feedforward and feedback pathways, checked when built."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurossl.activity import Activity
from neurossl.errors import NetworkError
from neurossl.feedback import FeedbackPathway, MirrorPathway
from neurossl.generators import concern_seed
from neurossl.pathways import FeedforwardPathway, Pathway
from neurossl.populations import Population, Response
from neurossl.updates import Update

if TYPE_CHECKING:
    from neurossl.plasticity.synapses import Synapses


class Network:
    """Populations and pathways.

    Parameters
    ----------
    *parts : Population or Pathway
        Populations before the pathways that join them.
    name : str

    Raises
    ------
    NetworkError
        For duplicate names, unknown populations, shapes that do not fit, cycles in the feedforward graph and populations
        that receive no input; the message names the pathway or population.

    Examples
    --------
    >>> network = Network(InputPopulation("retina", 64), Population("V1", 32), FeedforwardPathway("retina", "V1"))
    >>> activity = network.initialise(seed=1).sweep(torch.rand(8, 64))
    >>> activity["V1"].shape
    torch.Size([8, 32])
    """

    def __init__(self, *parts: Population | Pathway, name: str = "network") -> None:
        self.name = name
        self.populations: dict[str, Population] = {}
        self.pathways: dict[str, Pathway] = {}
        self._order: list[str] = []
        self._above: list[str] = []
        self._incoming: dict[str, list[FeedforwardPathway]] = {}
        self.seed: int | None = None
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.products: torch.dtype | None = None
        # Where a function is mapped over replicas, no rows are selected by their numbers, and nothing is overwritten.
        self.is_mapped = False
        self.add(*parts)

    def add(self, *parts: Population | Pathway) -> "Network":
        """Add populations and pathways; pathways added after `initialise` get their weights at once."""
        for part in parts:
            if isinstance(part, Population):
                self._add_population(part)
            elif isinstance(part, Pathway):
                self._add_pathway(part)
            else:
                raise NetworkError(f"network {self.name!r}: expected populations and pathways, got {part!r}")
        return self

    def _add_population(self, population: Population) -> None:
        if population.name in self.populations:
            raise NetworkError(f"network {self.name!r}: two populations are called {population.name!r}")
        if population.is_input and any(p.is_input for p in self.populations.values()):
            raise NetworkError(f"network {self.name!r}: {population.name!r} would be a second input population")
        self.populations[population.name] = population
        self._incoming[population.name] = []
        self._put_in_order()

    def _add_pathway(self, pathway: Pathway) -> None:
        if pathway.name in self.pathways:
            remedy = "" if isinstance(pathway, FeedforwardPathway | MirrorPathway) else "; give one a label"
            raise NetworkError(f"network {self.name!r}: two pathways are called {pathway.name!r}{remedy}")
        for end in (pathway.pre, pathway.post):
            if end not in self.populations:
                known = ", ".join(self.populations) or "none yet"
                raise NetworkError(f"pathway {pathway.name!r}: there is no population {end!r} (there are: {known})")
        post = self.populations[pathway.post]
        if post.is_input and isinstance(pathway, FeedforwardPathway):
            raise NetworkError(
                f"pathway {pathway.name!r}: {post.name!r} is the input population and receives the stimulus only"
            )
        pathway.join(self.populations[pathway.pre], post)
        self.pathways[pathway.name] = pathway
        if isinstance(pathway, FeedforwardPathway):
            self._incoming[pathway.post].append(pathway)
            try:
                self._put_in_order()
            except NetworkError:
                self._incoming[pathway.post].remove(pathway)
                del self.pathways[pathway.name]
                raise
        if self.seed is not None and not pathway.has_weights:
            self._draw(pathway)

    def initialise(self, seed: int = 0, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> "Network":
        """Draw all weights; each pathway from a generator of its own, seeded by the root seed and its name.

        Parameters
        ----------
        seed : int
        device, dtype
            Where and in which precision the weights live.

        Raises
        ------
        NetworkError
            If a population receives no input.
        """
        self.check()
        self.seed, self.device, self.dtype = int(seed), torch.device(device), dtype
        for pathway in self.pathways.values():
            self._draw(pathway)
        return self

    def _draw(self, pathway: Pathway) -> None:
        generator = torch.Generator().manual_seed(concern_seed(self.seed or 0, f"weights/{pathway.name}"))
        pathway.products = self.products
        pathway.initialise(generator, self.device, self.dtype)

    def complete(
        self, seed: int, device: torch.device, dtype: torch.dtype, products: torch.dtype | None = None
    ) -> "Network":
        """Move the weights that there are to a device and number type, and draw those that are missing.

        Parameters
        ----------
        seed : int
        device, dtype
            Where and in which precision the weights live.
        products : torch.dtype, optional
            Number type of the products with them and of the activities; that of the weights by default.
        """
        self.check()
        self.seed = int(seed) if self.seed is None else self.seed
        self.device, self.dtype, self.products = device, dtype, products
        for pathway in self.pathways.values():
            pathway.products = products
            if pathway.has_weights:
                pathway.set_weights(pathway.weight, pathway.bias, device, dtype)
            else:
                self._draw(pathway)
        return self

    def check(self) -> None:
        """Raise NetworkError unless every population receives input and there is a stimulus."""
        if not any(p.is_input for p in self.populations.values()):
            raise NetworkError(f"network {self.name!r}: there is no InputPopulation for the stimulus to fall on")
        if not self.order:
            raise NetworkError(f"network {self.name!r}: there is no population above {self.input.name!r}")
        for population in self.populations.values():
            if not population.is_input and not self.incoming(population.name):
                raise NetworkError(
                    f"population {population.name!r} receives no input: add FeedforwardPathway(..., {population.name!r})"
                )

    @property
    def input(self) -> Population:
        """The population on which the stimulus falls."""
        return next(p for p in self.populations.values() if p.is_input)

    @property
    def feedforward(self) -> dict[str, FeedforwardPathway]:
        """The feedforward pathways, in the order in which they were added."""
        return {n: p for n, p in self.pathways.items() if isinstance(p, FeedforwardPathway)}

    @property
    def feedback(self) -> dict[str, FeedbackPathway | MirrorPathway]:
        """The feedback and lateral pathways, in the order in which they were added."""
        return {n: p for n, p in self.pathways.items() if isinstance(p, FeedbackPathway | MirrorPathway)}

    def incoming(self, population: str) -> list[FeedforwardPathway]:
        """Return the feedforward pathways onto a population."""
        return self._incoming[population]

    def outgoing(self, population: str) -> list[FeedforwardPathway]:
        """Return the feedforward pathways from a population."""
        return [p for p in self.feedforward.values() if p.pre == population]

    @property
    def order(self) -> list[str]:
        """Populations above the input in the order of the sweep."""
        return self._above

    @property
    def top(self) -> str:
        """The last population of the sweep."""
        return self.order[-1]

    def _put_in_order(self) -> None:
        self._order = self._sorted()
        self._above = [name for name in self._order if not self.populations[name].is_input]

    def _sorted(self) -> list[str]:
        """Sort the populations topologically; ties keep the order in which they were added."""
        waiting, done = list(self.populations), []
        while waiting:
            ready = [n for n in waiting if all(p.pre in done for p in self.incoming(n))]
            if not ready:
                cycle = [p.name for p in self.feedforward.values() if p.pre in waiting and p.post in waiting]
                raise NetworkError(
                    f"pathway {cycle[-1]!r} closes a cycle of feedforward pathways ({', '.join(cycle)}): "
                    "use a FeedbackPathway"
                )
            done.append(ready[0])
            waiting.remove(ready[0])
        return done

    def sweep(self, stimulus: Tensor, values: Mapping[str, Tensor] | None = None, first: Activity | None = None) -> Activity:
        """Return the activity of one forward sweep.

        Parameters
        ----------
        stimulus : Tensor, (rows, *input shape)
        values : mapping of Tensor, (rows, *population shape), optional
            What populations send upwards in place of their activity (value neurons of predictive coding).
        first : Activity, optional
            An earlier sweep of the same stimulus with the same weights: populations that are sent the very same tensors as
            then respond as then.

        Raises
        ------
        NetworkError
            If the stimulus does not have the shape of the input population.
        """
        retina = self.input
        stimulus = self._on_retina(stimulus) if first is None else first.source[retina.name]
        output, source = {retina.name: stimulus}, {retina.name: stimulus}
        responses: dict[str, Response] = {}
        presynaptic: dict[str, Tensor] = {}
        for name in self.order:
            incoming = self._incoming[name]
            if first is not None and all(source[p.pre] is first.source[p.pre] for p in incoming):
                presynaptic.update({p.name: first.presynaptic[p.name] for p in incoming})
                responses[name] = first.responses[name]
            else:
                presynaptic.update({p.name: p.presynaptic(source[p.pre]) for p in incoming})
                responses[name] = self._respond(name, presynaptic)
            output[name] = responses[name].activity
            source[name] = output[name] if values is None else values.get(name, output[name])
        return Activity(self, output, responses, presynaptic, source)

    def sweep_along(self, stimulus: Tensor) -> Iterator[tuple[str, Activity]]:
        """Yield every population as soon as it has responded, with an activity of what is there at that moment.

        The activity of a population is let go when all that it drives have responded. Weights of pathways onto a population
        may change as soon as it has been yielded.

        Parameters
        ----------
        stimulus : Tensor, (rows, *input shape)

        Raises
        ------
        NetworkError
            If the stimulus does not have the shape of the input population.
        """
        source = {self.input.name: self._on_retina(stimulus)}
        waiting = {name: len(self.outgoing(name)) for name in self.populations}
        for name in self.order:
            incoming = self._incoming[name]
            presynaptic = {p.name: p.presynaptic(source[p.pre]) for p in incoming}
            response = self._respond(name, presynaptic)
            source[name] = response.activity
            yield name, Activity(self, {name: response.activity}, {name: response}, presynaptic, source)
            for pathway in incoming:
                waiting[pathway.pre] -= 1
                if not waiting[pathway.pre]:
                    del source[pathway.pre]

    def _on_retina(self, stimulus: Tensor) -> Tensor:
        """Return a stimulus in the shape, number type and memory layout of the input population."""
        retina = self.input
        if tuple(stimulus.shape[1:]) != retina.shape:
            if not len(stimulus) or retina.shape != (stimulus[0].numel(),):
                raise NetworkError(
                    f"stimulus: expected rows of {retina.shape} as in {retina.name!r}, got {tuple(stimulus.shape[1:])}: "
                    "resize the images or change the input population"
                )
            stimulus = stimulus.flatten(1)
        stimulus = stimulus if self.products is None else stimulus.to(self.products)
        if stimulus.ndim != 4:
            return stimulus
        # Channels last in memory; said so that it can be mapped over replicas.
        return stimulus.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    def _respond(self, name: str, presynaptic: Mapping[str, Tensor]) -> Response:
        """Return the response of a population to what its pathways add up to; large maps some rows at a time."""
        incoming, population = self._incoming[name], self.populations[name]
        chunks = population.chunks(len(presynaptic[incoming[0].name]))
        parts = []
        for some in chunks:
            seen = [presynaptic[p.name] if len(chunks) == 1 else presynaptic[p.name][some] for p in incoming]
            total = incoming[0].drive(seen[0])
            for pathway, x in zip(incoming[1:], seen[1:], strict=True):
                total.add_(pathway.drive(x))
            parts.append(population.respond(total))
        return parts[0] if len(parts) == 1 else Response.joined(parts)

    def apply(self, updates: Iterable[tuple[Pathway, Update]], synapses: "Synapses") -> None:
        """Change the weights: the only place where they change.

        Parameters
        ----------
        updates : iterable of (pathway, update)
            Ascent directions, taken one at a time, so that one pathway's change is alive at a time.
        synapses : Synapses
            Learning rates, optimiser and bounds.
        """
        for pathway, update in updates:
            if pathway.plastic:
                synapses.change(pathway, update)

    def describe(self) -> dict[str, object]:
        """Return populations and pathways as stored with a run."""
        return {
            "name": self.name,
            "populations": [p.describe() for p in self.populations.values()],
            "pathways": [p.describe() for p in self.pathways.values()],
        }

    def summary(self) -> str:
        """Return populations, pathways, synapse counts and memory as a table."""
        item = torch.empty(0, dtype=self.dtype).element_size()
        lines = [f"{self.name}: {len(self.populations)} populations, {len(self.pathways)} pathways", "", "populations"]
        for p in self.populations.values():
            pooling = f", {p.pooling.kind}-pooling {p.pooling.kernel}/{p.pooling.step}" if p.pooling else ""
            role = "input" if p.is_input else f"{p.transfer.name}{pooling}"
            lines.append(f"  {p.name:<16}{'x'.join(map(str, p.neurons)):<16}{role}")
        wide = max([28, *(len(name) + 2 for name in self.pathways)])
        lines += ["", f"  {'pathway':<{wide}}{'weights (post, pre)':<24}{'synapses':>14}{'memory':>12}"]
        for w in self.pathways.values():
            shape = "x".join(map(str, w.weight_shape)) + (" + bias" if w.has_bias else "")
            plastic = "" if w.plastic else "  fixed"
            lines.append(f"  {w.name:<{wide}}{shape:<24}{w.synapses:>14,}{w.stored * item / 2**20:>8.2f} MiB{plastic}")
        total, stored = (sum(getattr(w, what) for w in self.pathways.values()) for what in ("synapses", "stored"))
        lines.append(f"  {'total':<{wide + 24}}{total:>14,}{stored * item / 2**20:>8.2f} MiB")
        return "\n".join(lines)

    def __repr__(self) -> str:
        synapses = sum(p.synapses for p in self.pathways.values())
        return f"Network({self.name!r}: {' -> '.join(self._order)}; {len(self.pathways)} pathways, {synapses:,} synapses)"
