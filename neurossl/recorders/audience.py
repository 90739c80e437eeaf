"""The recorders of one simulation: admitted, asked whether they listen, and shown what there is to see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import Tensor

from neurossl.anatomy.network import Network
from neurossl.errors import OptionError
from neurossl.plasticity.rule import Rule
from neurossl.plasticity.watch import Watch
from neurossl.recorders.base import Recorder
from neurossl.recorders.observation import Observation
from neurossl.store import Store


class Audience:
    """The recorders of one simulation.

    Parameters
    ----------
    network : Network
        The simulation's own; gets the pathways that references need.
    rule : Rule
    store : Store, optional
    recorders : iterable of Recorder

    Raises
    ------
    OptionError
        If something is no recorder, is there twice, or has nothing or nowhere to record.
    """

    def __init__(self, network: Network, rule: Rule, store: Store | None, recorders: Iterable[Recorder]) -> None:
        self._network, self._rule, self._store = network, rule, store
        self._recorders: list[Recorder] = []
        if isinstance(recorders, Recorder):
            recorders = [recorders]
        for recorder in recorders:
            self._admit(recorder)
            recorder.wire(network)

    def __iter__(self) -> Iterator[Recorder]:
        return iter(self._recorders)

    def add(self, recorder: Recorder) -> None:
        """Admit one more, now that the weights are there.

        Raises
        ------
        OptionError
            As when made, or if it needs pathways that have no weights.
        """
        self._admit(recorder)
        wired = self._network.copy()
        recorder.wire(wired)
        added = [name for name in wired.pathways if name not in self._network.pathways]
        if added:
            self.remove(recorder)
            raise OptionError(
                f"{recorder!r} needs pathways that were not there when the simulation was made ({', '.join(added)}): "
                "give it in recorders="
            )

    def remove(self, recorder: Recorder) -> None:
        """Let one go.

        Raises
        ------
        OptionError
            If it is none of them.
        """
        if recorder not in self._recorders:
            raise OptionError(f"{recorder!r} is none of this simulation's recorders")
        self._recorders.remove(recorder)
        recorder.detach()

    def leave(self) -> None:
        """Let all go: the simulation was not made."""
        for recorder in list(self._recorders):
            self.remove(recorder)

    def announce(self, now: Observation, moments: int) -> None:
        """Tell the store how much so many moments will take; a disk with less room refuses before anything is learned."""
        expected = sum(recorder.expected_bytes(now, moments) for recorder in self._recorders)
        if self._store is not None and expected:
            self._store.announce(expected)

    def listening(self, moment: int) -> list[Recorder]:
        """Return those that want to see a moment."""
        return [recorder for recorder in self._recorders if recorder.due(moment)]

    def _admit(self, recorder: Recorder) -> None:
        if not isinstance(recorder, Recorder):
            raise OptionError(f"recorders: expected recorders such as WeightRecorder(every=100), got {recorder!r}")
        if recorder in self._recorders:
            raise OptionError(f"recorders: {recorder!r} is there twice")
        recorder.attach(self._store, self._rule)
        self._recorders.append(recorder)


def show(recorders: Iterable[Recorder], step: str, now: Observation, memory: Mapping[str, Tensor]) -> None:
    """Let recorders see a simulation at one of their steps: begin, before, after or end.

    Parameters
    ----------
    recorders : iterable of Recorder
    step : str
    now : Observation
    memory : mapping of str to Tensor
        What the rule remembers.

    Raises
    ------
    OptionError
        If one of them changes what it sees.
    """
    for recorder in recorders:
        # Once by the contents: numpy and .data change what no version tells.
        first = recorder.first_look(step)
        watch = Watch(now.circuit, now.activity, now.events, memory, contents=first)
        getattr(recorder, step)(now)
        if watch.changed:
            raise OptionError(f"{recorder!r} changes {watch.changed}: a recorder only looks; copy what is to be changed")
