"""Streams of moments: what is shown, in which order, to how many observers.

Moment k is a function of the root seed and k alone: a stream can be indexed, resumed anywhere, and is the same for every
rule. Each epoch shows every image once (up to a remainder smaller than a batch), in an order of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from neurossl.errors import OptionError, StimulusError
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Saccade, Teaching
from neurossl.generators import concern_seed
from neurossl.stimuli.streamed import StreamedImages, epoch_order
from neurossl.stimuli.views import Views
from neurossl.units import seconds


class Stream(ABC):
    """Base of all streams.

    Parameters
    ----------
    images : Tensor of uint8, (images, channels, height, width), or StreamedImages
        On any device, memory-mapped, or streamed from files.
    labels : Tensor of int64, (images,), or None
        None for images without labels: nothing teaches.
    views : Views
    observers : int
        Objects shown per moment.
    moments : int
        Length of the stream.
    seed : int
        Root seed.
    fixation_duration : float (seconds) or Brian2 quantity
    device : str or torch.device, optional
        Where views are computed; by default where the images are.

    Raises
    ------
    StimulusError
        If there are fewer images than observers, or not one label per image.
    OptionError
        If a number or duration does not fit.
    """

    def __init__(
        self,
        images: Tensor | StreamedImages,
        labels: Tensor | None,
        views: Views,
        *,
        observers: int = 128,
        moments: int = 400,
        seed: int = 0,
        fixation_duration: Any = 0.25,
        device: torch.device | str | None = None,
    ) -> None:
        if labels is not None and len(labels) != len(images):
            raise StimulusError(f"stream: expected one label per image ({len(images)}), got {len(labels)}")
        for what, number in (("observers", observers), ("moments", moments)):
            if not isinstance(number, int) or number < 1:
                raise OptionError(f"stream: expected a whole number of {what} >= 1, got {number}")
        if observers > len(images):
            raise StimulusError(f"stream: {observers} observers need as many images, got {len(images)}: lower observers")
        self.images = images
        self.labels = None if labels is None else labels.cpu()
        self.device = images.device if device is None else torch.device(device)
        self.views = views
        self.observers = observers
        self.moments = moments
        self.seed = int(seed)
        self.fixation_duration = seconds(fixation_duration, "fixation_duration")
        self._epoch_order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __len__(self) -> int:
        return self.moments

    def __iter__(self) -> Iterator[Moment]:
        for number in range(self.moments):
            yield self[number]

    def __getitem__(self, number: int) -> Moment:
        if not 0 <= number < self.moments:
            raise IndexError(f"moment {number} of a stream of {self.moments}")
        return self.moment(number)

    @abstractmethod
    def moment(self, number: int) -> Moment:
        """Return a moment of the stream."""

    def generator(self, concern: str) -> torch.Generator:
        """Return a generator of this stream, fresh for its concern."""
        return torch.Generator().manual_seed(concern_seed(self.seed, f"stimuli/{concern}"))

    def chosen(self, number: int) -> Tensor:
        """Return which images moment ``number`` shows, (observers,)."""
        per_epoch = len(self.images) // self.observers
        epoch, place = divmod(number, per_epoch)
        if self._epoch_order[0] != epoch:
            self._epoch_order = epoch, epoch_order(len(self.images), self.seed, epoch)
        return self._epoch_order[1][place * self.observers : (place + 1) * self.observers]

    def pictures(self, chosen: Tensor, following: int) -> Tensor:
        """Return images where views are computed; streamed ones of the batch ``following`` are decoded meanwhile."""
        if isinstance(self.images, StreamedImages):
            self.images.expect(chosen)
            self.images.expect(self.chosen(following))
            pixels = self.images[chosen]
        else:
            pixels = self.images.index_select(0, chosen.to(self.images.device))
        return pixels.to(self.device)

    def teaching(self, chosen: Tensor, views: int = 1) -> list[Event]:
        """Return what teaches the labels of images seen in so many views, if they have labels."""
        return [] if self.labels is None else [Teaching(self.labels[chosen].repeat(views))]

    def described(self) -> str:
        """Return what else a stored run says about the stream."""
        return ""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.moments} moments of {self.observers} observers, "
            f"{self.fixation_duration:g} s per fixation, seed {self.seed}{self.described()})"
        )


class ViewPairs(Stream):
    """Every observer sees two views of an object; what follows a saccade is another observer's object.

    Rows are ``[view 1; view 2]``. A moment has a `Fixation` with partners, a `Saccade` with landings and a `Teaching`, so
    that contrastive and supervised rules learn from the same images.

    Parameters
    ----------
    negatives : {"next", "random"}
        Where saccades land among the target rows ``[view 2; view 1]``: on the next row, as in the published code of CLAPP++,
        or anywhere, with replacement.
    landings : int
        Saccades per fixation; with "next" the next rows.
    transitions : {"both", "either"}
        Whether fixation and saccade both teach (synchronous), or one of them, by a coin per row (CLAPP).
    **common
        As for `Stream`.
    """

    def __init__(
        self,
        images: Tensor | StreamedImages,
        labels: Tensor | None,
        views: Views,
        *,
        negatives: str = "next",
        landings: int = 1,
        transitions: str = "both",
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, **common)
        if negatives not in ("next", "random"):
            raise OptionError(f"negatives: expected 'next' or 'random', got {negatives!r}")
        if transitions not in ("both", "either"):
            raise OptionError(f"transitions: expected 'both' or 'either', got {transitions!r}")
        if landings < 1 or (negatives == "next" and landings >= 2 * self.observers):
            raise OptionError(f"landings: expected 1 to {2 * self.observers - 1}, got {landings}")
        self.negatives = negatives
        self.landings = landings
        self.transitions = transitions

    def described(self) -> str:
        """Return where saccades land, and what teaches."""
        taught = "" if self.transitions == "both" else ", fixation or saccade teaches"
        return f", {self.landings} saccades to {'the next' if self.negatives == 'next' else 'random'} rows{taught}"

    def moment(self, number: int) -> Moment:
        """Return both views of the chosen images, with partners, landings and labels."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        stimulus = self.views(self.pictures(chosen, number + 1), generator, times=2)
        rows = len(stimulus)
        row = torch.arange(rows)
        partner = (row + rows // 2) % rows
        if self.negatives == "next":
            target = (row + torch.arange(1, self.landings + 1)[:, None]) % rows
        else:
            target = torch.randint(rows, (self.landings, rows), generator=self.generator(f"negatives-{number}"))
        events: list[Event] = [
            Fixation(stimulus, partner),
            Saccade(partner[target]),
            *self.teaching(chosen, views=2),
        ]
        if self.transitions == "either":
            gain = (torch.rand(rows, generator=self.generator(f"transitions-{number}")) < 0.5).float()
            events.append(Neuromodulation(gain, 1 - gain))
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))


class FixationSequence(Stream):
    """Online: one fixation at a time; after some fixations on an object, a saccade to another.

    Every observer looks at objects of its own; the saccade comes with the first fixation on the new object.

    Parameters
    ----------
    fixations_per_object : int
    staggered : bool
        Observers leave their objects at different moments.
    **common
        As for `Stream`; ``moments`` counts fixations.
    """

    def __init__(
        self,
        images: Tensor | StreamedImages,
        labels: Tensor | None,
        views: Views,
        *,
        fixations_per_object: int = 2,
        staggered: bool = False,
        observers: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, observers=observers, **common)
        if fixations_per_object < 1:
            raise OptionError(f"fixations_per_object: expected at least 1, got {fixations_per_object}")
        self.fixations_per_object = fixations_per_object
        self.staggered = staggered

    def moment(self, number: int) -> Moment:
        """Return one fixation of every observer."""
        lead = (
            torch.arange(self.observers) % self.fixations_per_object
            if self.staggered
            else torch.zeros(self.observers).long()
        )
        visit, fixation = (number + lead) // self.fixations_per_object, (number + lead) % self.fixations_per_object
        earlier, later = int(visit.min()), int(visit.max())
        chosen = self.chosen(earlier)
        if later != earlier:
            chosen = torch.where(visit == later, self.chosen(later), chosen)
        stimulus = self.views(self.pictures(chosen, later + 1), self.generator(f"moment-{number}"))
        events: list[Event] = [Fixation(stimulus), *self.teaching(chosen)]
        jumped = (fixation == 0) & (number > 0)
        if bool(jumped.any()):
            events.append(Saccade(observers=jumped))
        return Moment(*events, duration=self.fixation_duration, observers=self.observers)
