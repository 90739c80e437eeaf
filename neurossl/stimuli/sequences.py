"""Sequences of single fixations, as an animal makes them."""

from typing import Any

import torch

from neurossl.checks import whole
from neurossl.errors import StimulusError
from neurossl.events import Event, Fixation, Moment, Saccade
from neurossl.stimuli.streams import Stream
from neurossl.stimuli.views import Views


class FixationSequence(Stream):
    """Online: one fixation at a time; after some fixations on an object, a saccade to another.

    Every observer looks at objects of its own; the saccade comes with the first fixation on the new object. The first moment
    of all comes with one, too: what was seen before the sequence began, in another run, was another object.

    Parameters
    ----------
    fixations_per_object : int
    staggered : bool
        Observers leave their objects at different moments.
    **common
        As for `Stream`; ``moments`` counts fixations.

    Raises
    ------
    StimulusError
        If there are not two objects for every observer.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        views: Views | None = None,
        *,
        fixations_per_object: int = 2,
        staggered: bool = False,
        observers: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, observers=observers, **common)
        self.fixations_per_object = whole(fixations_per_object, "fixations_per_object")
        self.staggered = staggered
        if len(self.images) < 2 * self.observers:
            raise StimulusError(
                f"FixationSequence: {self.observers} observers need {2 * self.observers} images, to look from one to "
                f"another, got {len(self.images)}"
            )

    def options(self) -> dict[str, Any]:
        """Return what the stream was made with, apart from images, labels and views."""
        return super().options() | {"fixations_per_object": self.fixations_per_object, "staggered": self.staggered}

    def moment(self, number: int) -> Moment:
        """Return one fixation of every observer."""
        lead = torch.arange(self.observers, device="cpu") % self.fixations_per_object if self.staggered else 0
        count = torch.full((self.observers,), number, device="cpu") + lead
        visit, fixation = count // self.fixations_per_object, count % self.fixations_per_object
        earlier, later = int(visit.min()), int(visit.max())
        chosen = self.chosen(earlier)
        if later != earlier:
            chosen = torch.where(visit == later, self.chosen(later), chosen)
        stimulus = self.views(self.pictures(chosen, later + 1), self.generator(f"moment-{number}"))
        events: list[Event] = [Fixation(stimulus), *self.teaching(chosen)]
        jumped = (fixation == 0) | (number == 0)
        if bool(jumped.any()):
            events.append(Saccade(observers=jumped))
        return Moment(*events, duration=self.fixation_duration, observers=self.observers)
