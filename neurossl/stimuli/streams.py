"""Streams of moments: what is shown, in which order, to how many observers.

Moment k is a function of the root seed and k alone: a stream can be indexed, resumed anywhere, and is the same for every
rule. Each epoch shows every image once (up to a remainder smaller than a batch), in an order of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.errors import OptionError, StimulusError
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Phase, Saccade, Teaching
from neurossl.generators import concern_seed
from neurossl.stimuli.views import Views
from neurossl.units import seconds


class Stream(ABC):
    """Base of all streams.

    Parameters
    ----------
    images : Tensor of uint8, (images, channels, height, width)
        May be on any device: the views are computed there.
    labels : Tensor of int64, (images,)
    views : Views
    observers : int
        Objects shown per moment.
    moments : int
        Length of the stream.
    seed : int
        Root seed.
    fixation_duration : float (seconds) or Brian2 quantity

    Raises
    ------
    StimulusError
        If there are fewer images than observers, or not one label per image.
    OptionError
        If a number or duration does not fit.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        views: Views,
        *,
        observers: int = 128,
        moments: int = 400,
        seed: int = 0,
        fixation_duration: Any = 0.25,
    ) -> None:
        if len(labels) != len(images):
            raise StimulusError(f"stream: expected one label per image ({len(images)}), got {len(labels)}")
        for what, number in (("observers", observers), ("moments", moments)):
            if not isinstance(number, int) or number < 1:
                raise OptionError(f"stream: expected a whole number of {what} >= 1, got {number}")
        if observers > len(images):
            raise StimulusError(f"stream: {observers} observers need as many images, got {len(images)}: lower observers")
        self.images = images
        self.labels = labels.cpu()
        self.views = views
        self.observers = observers
        self.moments = moments
        self.seed = int(seed)
        self.fixation_duration = seconds(fixation_duration, "fixation_duration")
        self._epoch_order: tuple[int, Tensor] = (-1, self.labels)

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
            self._epoch_order = epoch, torch.randperm(len(self.images), generator=self.generator(f"epoch-{epoch}"))
        return self._epoch_order[1][place * self.observers : (place + 1) * self.observers]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.moments} moments of {self.observers} observers, "
            f"{self.fixation_duration:g} s per fixation, seed {self.seed})"
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
        images: Tensor,
        labels: Tensor,
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

    def moment(self, number: int) -> Moment:
        """Return both views of the chosen images, with partners, landings and labels."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        pixels = self.images[chosen]
        stimulus = torch.cat([self.views(pixels, generator), self.views(pixels, generator)])
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
            Teaching(self.labels[chosen].repeat(2)),
        ]
        if self.transitions == "either":
            gain = (torch.rand(rows, generator=self.generator(f"transitions-{number}")) < 0.5).float()
            events.append(Neuromodulation(gain, 1 - gain))
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))


def write_label(stimulus: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Return images with the label written into the first ``classes`` pixels of the top row.

    Parameters
    ----------
    stimulus : Tensor, (rows, channels, height, width)
    labels : Tensor of int64, (rows,), or None
        The label's pixel becomes 1 and the others 0; None writes the neutral label, 0.1 everywhere.
    classes : int

    Raises
    ------
    StimulusError
        If the images are narrower than there are classes.
    """
    _check_room(stimulus.shape[-1], classes)
    written = stimulus.clone()
    code = torch.full((len(stimulus), classes), 0.1) if labels is None else F.one_hot(labels, classes)
    written[:, :, 0, :classes] = code.to(written)[:, None]
    return written


def _check_room(width: int, classes: int) -> None:
    if width < classes:
        raise StimulusError(f"label in the image: {classes} classes need images at least as wide, got {width} pixels")


class WakeSleep(Stream):
    """Forward-forward: rows ``[awake; asleep]``, one of each per observer.

    Parameters
    ----------
    classes : int
    negatives : {"labels", "hybrids"}
        labels: the right label is written into the image awake, a wrong one into the same view asleep (Hinton 2022, 3.3).
        hybrids: asleep, a patchwork of two images joined by a smooth random mask (3.2); nothing is written.
    **common
        As for `Stream`.

    Raises
    ------
    StimulusError
        If there is no wrong label, no room for the label or no other image, or if a label is none of the classes.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, views: Views, classes: int, *, negatives: str = "labels", **common: Any
    ) -> None:
        super().__init__(images, labels, views, **common)
        if negatives not in ("labels", "hybrids"):
            raise OptionError(f"negatives: expected 'labels' or 'hybrids', got {negatives!r}")
        if negatives == "labels" and classes < 2:
            raise StimulusError(f"wrong labels need at least 2 classes, got {classes}")
        if negatives == "labels":
            _check_room(views.size, classes)
            if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
                found = f"{int(labels.min())} to {int(labels.max())}"
                raise StimulusError(f"label in the image: expected labels 0 to {classes - 1}, got {found}")
        elif self.observers < 2:
            raise StimulusError("hybrids join the images of two observers, got 1: raise observers")
        self.classes = classes
        self.negatives = negatives

    def moment(self, number: int) -> Moment:
        """Return the views of the chosen images awake and asleep."""
        chosen = self.chosen(number)
        labels = self.labels[chosen]
        generator = self.generator(f"moment-{number}")
        view = self.views(self.images[chosen], generator)
        other = self.generator(f"negatives-{number}")
        if self.negatives == "labels":
            wrong = (labels + torch.randint(1, self.classes, labels.shape, generator=other)) % self.classes
            awake, asleep = write_label(view, labels, self.classes), write_label(view, wrong, self.classes)
        else:
            mask = hybrid_mask(len(view), view.shape[-2], view.shape[-1], other).to(view.device)
            awake, asleep = view, torch.where(mask, view, view.roll(1, 0))
        sign = torch.cat([torch.ones(len(view)), -torch.ones(len(view))])
        events = Fixation(torch.cat([awake, asleep])), Phase(sign), Teaching(labels.repeat(2))
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))


def hybrid_mask(rows: int, height: int, width: int, generator: torch.Generator, blurs: int = 6) -> Tensor:
    """Return random masks with large regions: bits blurred with [1/4, 1/2, 1/4] both ways, thresholded at 1/2.

    Returns
    -------
    Tensor of bool, (rows, 1, height, width)
    """
    bits = torch.randint(0, 2, (rows, 1, height, width), generator=generator).float()
    kernel = torch.tensor([0.25, 0.5, 0.25])
    for _ in range(blurs):
        bits = F.conv2d(F.pad(bits, (1, 1, 0, 0), mode="replicate"), kernel.view(1, 1, 1, 3))
        bits = F.conv2d(F.pad(bits, (0, 0, 1, 1), mode="replicate"), kernel.view(1, 1, 3, 1))
    return bits > 0.5


class DoubledInput(Stream):
    """SCFF: awake the same view in both halves of a doubled input, asleep the view of another image in the second half.

    Both halves have the same weights and the drive is linear, so the stimulus is the sum of the halves; each pathway's bias
    counts once instead of twice. The other image is that of the observer some random, non-zero number of places away.

    Parameters
    ----------
    **common
        As for `Stream`; at least 2 observers.
    """

    def __init__(self, images: Tensor, labels: Tensor, views: Views, **common: Any) -> None:
        super().__init__(images, labels, views, **common)
        if self.observers < 2:
            raise StimulusError("DoubledInput joins the images of two observers, got 1: raise observers")

    def moment(self, number: int) -> Moment:
        """Return the sums of halves awake and asleep."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        view = self.views(self.images[chosen], generator)
        away = int(torch.randint(1, len(view), (1,), generator=self.generator(f"negatives-{number}")))
        stimulus = torch.cat([2 * view, view + view.roll(away, 0)])
        sign = torch.cat([torch.ones(len(view)), -torch.ones(len(view))])
        events = Fixation(stimulus), Phase(sign), Teaching(self.labels[chosen].repeat(2))
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
        images: Tensor,
        labels: Tensor,
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
        stimulus = self.views(self.images[chosen], self.generator(f"moment-{number}"))
        events: list[Event] = [Fixation(stimulus), Teaching(self.labels[chosen])]
        jumped = (fixation == 0) & (number > 0)
        if bool(jumped.any()):
            events.append(Saccade(observers=jumped))
        return Moment(*events, duration=self.fixation_duration, observers=self.observers)
