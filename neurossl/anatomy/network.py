"""Networks: populations joined by feedforward and feedback pathways, checked when built."""

import os
from copy import copy
from typing import Any

from neurossl.anatomy.feedback import FeedbackPathway, MirrorPathway
from neurossl.anatomy.pathways import FeedforwardPathway, Pathway
from neurossl.anatomy.populations import Population
from neurossl.errors import NetworkError


class Network:
    """Populations and pathways: what exists, without weights (`neurossl.Weights`).

    Parameters
    ----------
    *parts : Population or Pathway
        Populations before the pathways that join them. A pathway is copied, so that the same one may be used twice.
    name : str

    Raises
    ------
    NetworkError
        For duplicate names, unknown populations, shapes that do not fit, cycles in the feedforward graph and populations
        that receive no input; the message names the pathway or population.

    Examples
    --------
    >>> network = Network(InputPopulation("retina", 64), Population("V1", 32), FeedforwardPathway("retina", "V1"))
    >>> circuit = Circuit(network, Weights.draw(network, seed=1))
    >>> circuit.sweep(torch.rand(8, 64))["V1"].shape
    torch.Size([8, 32])
    """

    def __init__(self, *parts: Population | Pathway, name: str = "network") -> None:
        self.name = name
        self.populations: dict[str, Population] = {}
        self.pathways: dict[str, Pathway] = {}
        self._order: list[str] = []
        self._above: list[str] = []
        self._incoming: dict[str, list[FeedforwardPathway]] = {}
        self.add(*parts)

    def add(self, *parts: Population | Pathway) -> "Network":
        """Add populations and pathways."""
        for part in parts:
            if isinstance(part, Population):
                self._add_population(part)
            elif isinstance(part, Pathway):
                self._add_pathway(part)
            else:
                raise NetworkError(f"network {self.name!r}: expected populations and pathways, got {part!r}")
        return self

    @classmethod
    def from_run(cls, run: str | os.PathLike[str]) -> "Network":
        """Return the network of a stored run, as it was after wiring.

        Raises
        ------
        TrajectoryError
            If it is no run, or does not say.
        """
        from neurossl.runs import opened, stored_network

        return stored_network(opened(run), str(run))

    def copy(self) -> "Network":
        """Return a network of the same populations and pathways, to which others can be added without changing this one."""
        other = copy(self)
        other.populations = dict(self.populations)
        other.pathways = {name: copy(pathway) for name, pathway in self.pathways.items()}
        other._order, other._above = list(self._order), list(self._above)
        other._incoming = {
            name: [other.pathways[p.name] for p in pathways]  # type: ignore[misc]
            for name, pathways in self._incoming.items()
        }
        return other

    def _add_population(self, population: Population) -> None:
        if population.name in self.populations:
            raise NetworkError(f"network {self.name!r}: two populations are called {population.name!r}")
        self.populations[population.name] = population
        self._incoming[population.name] = []
        self._put_in_order()

    def _add_pathway(self, pathway: Pathway) -> None:
        if pathway.name in self.pathways:
            remedy = "" if isinstance(pathway, MirrorPathway) else "; give one a label"
            raise NetworkError(f"network {self.name!r}: two pathways are called {pathway.name!r}{remedy}")
        for end in (pathway.pre, pathway.post):
            if end not in self.populations:
                known = ", ".join(self.populations) or "none yet"
                raise NetworkError(f"pathway {pathway.name!r}: there is no population {end!r} (there are: {known})")
        if self.populations[pathway.post].is_input and isinstance(pathway, FeedforwardPathway):
            raise NetworkError(
                f"pathway {pathway.name!r}: {pathway.post!r} is the input population and receives the stimulus only"
            )
        mine = pathway.joined(self)
        if isinstance(mine, FeedforwardPathway):
            self._incoming[mine.post].append(mine)
            try:
                self._put_in_order(mine.name)
            except NetworkError:
                self._incoming[mine.post].remove(mine)
                raise
        self.pathways[mine.name] = mine

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
    def inputs(self) -> list[Population]:
        """The populations on which the stimulus falls, in the order in which they were added."""
        return [p for p in self.populations.values() if p.is_input]

    @property
    def input(self) -> Population:
        """The population on which the stimulus falls; the first where there are several."""
        return self.inputs[0]

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

    def mirror_of(self, pathway: str) -> MirrorPathway | None:
        """Return the pathway that mirrors a feedforward pathway, if there is one."""
        mirrors = (p for p in self.pathways.values() if isinstance(p, MirrorPathway))
        return next((m for m in mirrors if m.forward_name == pathway), None)

    @property
    def order(self) -> list[str]:
        """Populations above the input in the order of the sweep."""
        return self._above

    @property
    def top(self) -> str:
        """The last population of the sweep."""
        return self.order[-1]

    def pathway(self, name: str) -> Pathway:
        """Return a pathway by name.

        Raises
        ------
        NetworkError
            If there is none; lists those that there are.
        """
        if name not in self.pathways:
            raise NetworkError(f"there is no pathway {name!r} (there are: {', '.join(self.pathways) or 'none'})")
        return self.pathways[name]

    def population(self, name: str) -> Population:
        """Return a population by name.

        Raises
        ------
        NetworkError
            If there is none; lists those that there are.
        """
        if name not in self.populations:
            raise NetworkError(f"there is no population {name!r} (there are: {', '.join(self.populations) or 'none'})")
        return self.populations[name]

    def _put_in_order(self, added: str = "") -> None:
        self._order = self._sorted(added)
        self._above = [name for name in self._order if not self.populations[name].is_input]

    def _sorted(self, added: str) -> list[str]:
        """Sort the populations topologically; ties keep the order in which they were added.

        Parameters
        ----------
        added : str
            The pathway that is new, which closes the cycle where there is one.
        """
        waiting, done = list(self.populations), []
        while waiting:
            ready = [n for n in waiting if all(p.pre in done for p in self.incoming(n))]
            if not ready:
                cycle = [p.name for n in waiting for p in self.incoming(n) if p.pre in waiting]
                raise NetworkError(
                    f"pathway {added!r} closes a cycle of feedforward pathways ({', '.join(cycle)}): use a FeedbackPathway"
                )
            done.append(ready[0])
            waiting.remove(ready[0])
        return done

    def describe(self) -> dict[str, Any]:
        """Return populations and pathways as stored with a run."""
        return {
            "name": self.name,
            "populations": [p.describe() for p in self.populations.values()],
            "pathways": [p.describe() for p in self.pathways.values()],
        }

    def summary(self) -> str:
        """Return populations, pathways, synapse counts and memory in float32 as a table."""
        lines = [f"{self.name}: {len(self.populations)} populations, {len(self.pathways)} pathways", "", "populations"]
        for p in self.populations.values():
            pooling = f", {p.pooling.kind}-pooling {p.pooling.describe().split()[1]}" if p.pooling else ""
            role = "input" if p.is_input else f"{p.transfer.name}{pooling}"
            lines.append(f"  {p.name:<16}{'x'.join(map(str, p.neurons)):<16}{role}")
        wide = max([28, *(len(name) + 2 for name in self.pathways)])
        lines += ["", f"  {'pathway':<{wide}}{'weights (post, pre)':<24}{'synapses':>14}{'memory':>12}"]
        for w in self.pathways.values():
            shape = "x".join(map(str, w.weight_shape)) + (" + bias" if w.has_bias else "")
            plastic = "" if w.plastic else "  fixed"
            lines.append(f"  {w.name:<{wide}}{shape:<24}{w.synapses:>14,}{w.stored * 4 / 2**20:>8.2f} MiB{plastic}")
        total, stored = (sum(getattr(w, what) for w in self.pathways.values()) for what in ("synapses", "stored"))
        lines.append(f"  {'total':<{wide + 24}}{total:>14,}{stored * 4 / 2**20:>8.2f} MiB")
        return "\n".join(lines)

    def __repr__(self) -> str:
        synapses = sum(p.synapses for p in self.pathways.values())
        shown = self._order if len(self._order) <= 12 else [*self._order[:3], "...", *self._order[-2:]]
        return f"Network({self.name!r}: {' -> '.join(shown)}; {len(self.pathways)} pathways, {synapses:,} synapses)"
