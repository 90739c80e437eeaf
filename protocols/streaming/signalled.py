"""What an animal lives through: fixations of one observer, and a saccade signal that is true, shuffled or missing."""

from collections.abc import Iterator

import torch

from neurossl.events import Moment, Neuromodulation, Saccade
from neurossl.generators import concern_seed
from neurossl.stimuli import FixationSequence

SIGNALS = ("true", "shuffled", "none")


class SignalledSequence:
    """Fixations of one observer, with a saccade signal that is true, shuffled or missing.

    A saccade comes once in ``fixations_per_object`` moments; its neuromodulator is as much stronger, so that fixations and
    saccades weigh the same over time.

    Parameters
    ----------
    stream : FixationSequence
        Of one observer.
    signal : {"true", "shuffled", "none"}
        shuffled: as many signals, at random moments. none: every moment is taken for a fixation within the object.

    Attributes
    ----------
    truth, signalled : Tensor of bool, (moments,)
        Before which moments the eyes have jumped, and before which the animal is told so.
    """

    def __init__(self, stream: FixationSequence, signal: str) -> None:
        self.stream = stream
        self.signal = signal
        number = torch.arange(len(stream))
        self.truth = (number % stream.fixations_per_object == 0) & (number > 0)
        generator = torch.Generator().manual_seed(concern_seed(stream.seed, "stimuli/shuffled-signals"))
        order = torch.randperm(len(stream), generator=generator)
        self.signalled = {"true": self.truth, "shuffled": self.truth[order], "none": torch.zeros_like(self.truth)}[signal]

    def __len__(self) -> int:
        return len(self.stream)

    def __iter__(self) -> Iterator[Moment]:
        gains = torch.ones(1), torch.full((1,), max(1.0, self.stream.fixations_per_object - 1.0))
        for number, moment in enumerate(self.stream):
            kept = [event for event in moment if not isinstance(event, Saccade)]
            if bool(self.signalled[number]):
                kept.append(Saccade(observers=torch.ones(1, dtype=torch.bool)))
            yield Moment(*kept, Neuromodulation(*gains), duration=moment.duration, observers=1)

    def __repr__(self) -> str:
        return f"{self.stream!r}, saccade signal: {self.signal}"
