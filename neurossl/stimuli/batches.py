"""Batches that somebody else makes, such as those of a `torch.utils.data.DataLoader`, as moments."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Event, Fixation, Moment, Saccade, Teaching
from neurossl.generators import concern_seed
from neurossl.stimuli.datasets.arrays import check_pixels, labels_of, tensor_of
from neurossl.stimuli.pairs import check_negatives, negative_rows, partner_rows
from neurossl.stimuli.views import Views
from neurossl.units import seconds


class BatchStream:
    """Every batch is a moment; made by `stream_of_batches`.

    A stream of this kind has no moment by number: a run that is resumed begins it anew, and what a shuffling loader draws is
    its own affair. Where moments must come again bit for bit, give images to `ViewPairs` instead.

    Parameters
    ----------
    batches : iterable of (images, labels), or of images
        Such as a DataLoader. Images: Tensor or array, (rows, channels, height, width), of uint8, or floating in [0, 1] where
        views are given; or two of them, two views of the same objects. Labels: integers, (rows,).
    views : Views, optional
        Every image is seen in two random views. Without it, images are shown as they are, floats of any size.
    negatives : int
        Negatives per positive pair, of the next rows; where there are two views.
    epochs : int
        How often the batches are gone through; an iterator can be used once.
    seed : int
        Of the views.
    fixation_duration : float (seconds) or Brian2 quantity

    Raises
    ------
    OptionError
        If a number or duration does not fit, or batches cannot be gone through.
    """

    def __init__(
        self,
        batches: Iterable[Any],
        views: Views | None = None,
        *,
        negatives: int = 1,
        epochs: int = 1,
        seed: int = 0,
        fixation_duration: Any = 0.25,
    ) -> None:
        if not isinstance(batches, Iterable) or isinstance(batches, str | bytes | Tensor):
            raise OptionError(f"stream_of_batches: expected an iterable of batches, got {type(batches).__name__}")
        self.batches = batches
        self.views = views
        self.negatives = whole(negatives, "stream_of_batches: negatives")
        self.epochs = whole(epochs, "stream_of_batches: epochs")
        self.seed = whole(seed, "stream_of_batches: seed", -(2**63), 2**63 - 1)
        self.fixation_duration = seconds(fixation_duration, "fixation_duration")
        self._used = False
        if isinstance(batches, Iterator) and self.epochs > 1:
            raise OptionError(
                "stream_of_batches: an iterator can be gone through once: give a DataLoader or a list, or 1 epoch"
            )

    def __iter__(self) -> Iterator[Moment]:
        number = 0
        for _ in range(self.epochs):
            if isinstance(self.batches, Iterator):
                if self._used:
                    raise StimulusError("stream_of_batches: the iterator has been used up: give a DataLoader or a list")
                self._used = True
            for batch in self.batches:
                yield self._moment(batch, number)
                number += 1

    def _moment(self, batch: Any, number: int) -> Moment:
        where = f"batch {number}"
        images, labels = batch if isinstance(batch, Sequence) and len(batch) == 2 else (batch, None)
        seen = [tensor_of(part, where) for part in (images if isinstance(images, list | tuple) else [images])]
        if len(seen) > 2 or len({part.shape for part in seen}) != 1 or not len(seen[0]):
            raise StimulusError(
                f"{where}: expected images, or two views of the same, got {len(seen)} arrays of several shapes"
            )
        if self.views is not None:
            if len(seen) == 2:
                raise StimulusError(f"{where}: two views of every image, and views of them: give one or the other")
            generator = torch.Generator().manual_seed(concern_seed(self.seed, f"stimuli/moment-{number}"))
            stimulus, views = self.views(check_pixels(seen[0], where), generator, times=2), 2
        else:
            shown = torch.cat(seen)
            stimulus, views = shown.to(torch.float32) / (255 if shown.dtype == torch.uint8 else 1), len(seen)
            if not bool(stimulus.isfinite().all()):
                row = int((~stimulus.flatten(1).isfinite().all(1)).nonzero()[0])
                raise StimulusError(f"{where}: image {row % len(seen[0])} has NaN or infinite pixels")
        rows = len(stimulus)
        # Every batch shows other objects than the one before.
        events: list[Event] = [Fixation(stimulus), Saccade()]
        if views == 2:
            check_negatives(self.negatives, len(seen[0]), "next", f"{where} (a last, smaller one: drop_last=True)")
            events = [Fixation(stimulus, partner_rows(rows)), Saccade(negative_rows(rows, self.negatives, None))]
        if labels is not None:
            events.append(Teaching(labels_of(labels, len(seen[0]), where).repeat(views)))
        return Moment(*events, duration=views * self.fixation_duration, observers=len(seen[0]))

    def describe(self) -> dict[str, Any]:
        """Return what a stored run says of the stream, as JSON can hold it."""
        options = {
            "negatives": self.negatives,
            "epochs": self.epochs,
            "seed": self.seed,
            "fixation_duration": self.fixation_duration,
        }
        views = None if self.views is None else self.views.describe()
        found = {"name": type(self.batches).__name__, "digest": None}
        return {"stream": "BatchStream", "images": found, "views": views, "options": options}

    def __repr__(self) -> str:
        return f"BatchStream({self.epochs} x {type(self.batches).__name__}, {self.fixation_duration:g} s per fixation)"


class _CountedBatchStream(BatchStream):
    """Of batches that can be counted."""

    def __len__(self) -> int:
        return self.epochs * len(self.batches)  # type: ignore[arg-type]


def stream_of_batches(batches: Iterable[Any], views: Views | None = None, **options: Any) -> BatchStream:
    """Return a stream that shows the batches of somebody else, such as those of a `torch.utils.data.DataLoader`.

    Parameters
    ----------
    batches, views, **options
        As for `BatchStream`. The stream has a length where the batches have one.

    Examples
    --------
    >>> import numpy as np
    >>> from neurossl.stimuli import Views
    >>> batches = [(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 2, 3])]
    >>> [moment] = stream_of_batches(batches, Views(8))
    >>> moment
    Moment(Fixation, Saccade, Teaching; 4 observers, 0.5 s)
    """
    try:
        len(batches)  # type: ignore[arg-type]
    except TypeError:
        return BatchStream(batches, views, **options)
    return _CountedBatchStream(batches, views, **options)
