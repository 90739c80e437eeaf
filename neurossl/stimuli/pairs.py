"""Pairs of views: what is seen within one fixation after another, and what would have been seen after a saccade."""

from typing import Any

import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Event, Fixation, Moment, Neuromodulation, Saccade
from neurossl.generators import uniform
from neurossl.stimuli.streams import Stream
from neurossl.stimuli.views import Views


def partner_rows(rows: int) -> Tensor:
    """Return the rows of the same objects in the other view, of rows ``[view 1; view 2]``."""
    return (torch.arange(rows, device="cpu") + rows // 2) % rows


def negative_rows(rows: int, negatives: int, generator: torch.Generator | None) -> Tensor:
    """Return rows that show other objects, for every row of ``[view 1; view 2]``; never one of its own object.

    Parameters
    ----------
    rows : int
    negatives : int
        Per row.
    generator : torch.Generator, optional
        Draws among all rows of other objects, with replacement; without it, the rows that follow the partner.

    Returns
    -------
    Tensor of int64, (negatives, rows)
    """
    row, objects = torch.arange(rows, device="cpu"), rows // 2
    if generator is None:
        away = torch.arange(1, negatives + 1, device="cpu")[:, None]
    else:
        # All that is neither 0 nor half the rows: the partner and the row itself.
        away = 1 + torch.randint(rows - 2, (negatives, rows), generator=generator, device="cpu")
        away += (away >= objects).long()
    return partner_rows(rows)[(row + away) % rows]


def check_negatives(negatives: int, objects: int, sampling: str, where: str) -> None:
    """Refuse what would tell an object from itself.

    Raises
    ------
    StimulusError
        If there is no other object.
    OptionError
        If the next rows are not those of so many other objects.
    """
    if objects < 2:
        raise StimulusError(
            f"{where}: 1 observer leaves no other object to be compared with: show at least 2, such as observers=32"
        )
    if sampling == "next" and negatives >= objects:
        raise OptionError(
            f"{where}: negatives: expected 1 to {objects - 1}, fewer than the {objects} observers, since the next row after "
            f"that shows the object itself; got {negatives}"
        )


class ViewPairs(Stream):
    """Every observer sees two views of an object; what follows a saccade is another observer's object.

    Rows are ``[view 1; view 2]``. A moment has a `Fixation` with partners, a `Saccade` with negatives and, where there are
    labels, a `Teaching`, so that contrastive and supervised rules learn from the same images.

    Parameters
    ----------
    negatives : int
        Negatives per positive pair: saccades per fixation.
    sampling : {"next", "random"}
        Which rows of ``[view 2; view 1]`` are negatives: the next ones, as in the published code of CLAPP++, or any of other
        observers, with replacement (the published code draws an object's own rows, too).
    transitions : {"both", "either"}
        Whether fixation and saccade both teach (synchronous), or one of them, by a coin per row (CLAPP).
    **common
        As for `Stream`; at least 2 observers.

    Raises
    ------
    StimulusError
        If there is one observer.
    OptionError
        If an option does not exist, or there are as many negatives as observers.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        views: Views | None = None,
        *,
        negatives: int = 1,
        sampling: str = "next",
        transitions: str = "both",
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, **common)
        if sampling not in ("next", "random"):
            raise OptionError(f"sampling: expected 'next' or 'random', got {sampling!r}")
        if transitions not in ("both", "either"):
            raise OptionError(f"transitions: expected 'both' or 'either', got {transitions!r}")
        self.negatives = whole(negatives, "ViewPairs: negatives")
        check_negatives(self.negatives, self.observers, sampling, "ViewPairs")
        self.sampling = sampling
        self.transitions = transitions

    def options(self) -> dict[str, Any]:
        """Return what the stream was made with, apart from images, labels and views."""
        return super().options() | {
            "negatives": self.negatives,
            "sampling": self.sampling,
            "transitions": self.transitions,
        }

    def described(self) -> str:
        """Return which negatives there are, and what teaches."""
        taught = "" if self.transitions == "both" else ", fixation or saccade teaches"
        return f", {self.negatives} {'next' if self.sampling == 'next' else 'random'} rows as negatives{taught}"

    def moment(self, number: int) -> Moment:
        """Return both views of the chosen images, with partners, negatives and labels."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        stimulus = self.views(self.pictures(chosen, number + 1), generator, times=2)
        rows = len(stimulus)
        draws = None if self.sampling == "next" else self.generator(f"negatives-{number}")
        events: list[Event] = [
            Fixation(stimulus, partner_rows(rows)),
            Saccade(negative_rows(rows, self.negatives, draws)),
            *self.teaching(chosen, views=2),
        ]
        if self.transitions == "either":
            gain = (uniform(rows, generator=self.generator(f"transitions-{number}")) < 0.5).to(torch.float32)
            events.append(Neuromodulation(gain, 1 - gain))
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))
