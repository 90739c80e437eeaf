"""Streams of moments: what is shown, in which order, to how many observers.

Moment k is a function of the root seed and k alone: a stream can be indexed, resumed anywhere, is the same for every rule,
and the same whenever it is used again. Each epoch shows every image once (up to a remainder smaller than a batch), in an
order of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Event, Moment, Teaching
from neurossl.generators import concern_seed
from neurossl.stimuli.datasets.arrays import check_pixels, labels_of, tensor_of
from neurossl.stimuli.datasets.images import ImageSet
from neurossl.stimuli.datasets.pixels import content_digest
from neurossl.stimuli.datasets.streamed import StreamedImages, epoch_order
from neurossl.stimuli.views import Views, default_views
from neurossl.units import seconds


class Stream(ABC):
    """Base of all streams.

    Parameters
    ----------
    images : ImageSet, Tensor or array of uint8 or floating in [0, 1], (images, channels, height, width), or StreamedImages
        On any device, memory-mapped, or streamed from files. Of an ImageSet, the training images with their labels, or the
        unlabelled ones if there are no others.
    labels : Tensor or array of integers, (images,), optional
        None for images without labels: nothing teaches.
    views : Views, optional
        By default, of an ImageSet, those that suit (`default_views`).
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
        If there are fewer images than observers, not one label per image, or pixels neither of 8 bits nor in [0, 1].
    OptionError
        If a number or duration does not fit.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        views: Views | None = None,
        *,
        observers: int = 128,
        moments: int = 400,
        seed: int = 0,
        fixation_duration: Any = 0.25,
        device: torch.device | str | None = None,
    ) -> None:
        self.image_set = images if isinstance(images, ImageSet) else None
        if self.image_set is not None:
            if labels is not None:
                raise OptionError("stream: an ImageSet has labels of its own: give its images, or leave labels out")
            images, labels = _shown(self.image_set)
            views = default_views(self.image_set) if views is None else views
        if views is None:
            raise OptionError("stream: there are no views: give them, such as Views(size), or give an ImageSet")
        if not callable(views) or isinstance(views, type):
            raise OptionError(f"stream: expected views such as Views(size) or default_views(images), got {views!r}")
        self.images: Tensor | StreamedImages = (
            images if isinstance(images, StreamedImages) else check_pixels(tensor_of(images, "stream"), "stream")
        )
        self.labels = None if labels is None else labels_of(labels, len(self.images), "stream")
        self.observers = whole(observers, "stream: observers")
        self.moments = whole(moments, "stream: moments")
        if self.observers > len(self.images):
            raise StimulusError(
                f"stream: {self.observers} observers need as many images, got {len(self.images)}: lower observers"
            )
        self.device = self.images.device if device is None else torch.device(device)
        self.views = views
        self.seed = whole(seed, "stream: seed", -(2**63), 2**63 - 1)
        self.fixation_duration = seconds(fixation_duration, "fixation_duration")
        self._epoch_order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __len__(self) -> int:
        return self.moments

    def __iter__(self) -> Iterator[Moment]:
        for number in range(self.moments):
            yield self[number]

    def __getitem__(self, number: int) -> Moment:
        number = whole(number, "moment", -(2**63))
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
        kept = self._epoch_order
        if kept[0] != epoch:
            kept = self._epoch_order = epoch, epoch_order(len(self.images), self.seed, epoch)
        return kept[1][place * self.observers : (place + 1) * self.observers]

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

    def options(self) -> dict[str, Any]:
        """Return what the stream was made with, apart from images, labels and views, as JSON can hold it."""
        return {
            "observers": self.observers,
            "moments": self.moments,
            "seed": self.seed,
            "fixation_duration": self.fixation_duration,
        }

    def describe(self) -> dict[str, Any]:
        """Return what a stored run says of the stream, as JSON can hold it.

        Returns
        -------
        dict
            ``stream``: its class. ``images``: name of the set, if it was made of one, a digest that tells changed images,
            their number and shape, whether they have labels. ``views`` and ``options``: all that they were made with.
        """
        own = self.image_set
        found = {
            "name": None if own is None else own.name,
            "digest": content_digest(self.images) if own is None else own.digest,
            "count": len(self.images),
            "shape": list(self.images.shape[1:]),
            "labelled": self.labels is not None,
        }
        return {"stream": type(self).__name__, "images": found, "views": self.views.describe(), "options": self.options()}

    def described(self) -> str:
        """Return what else `repr` says about the stream."""
        return ""

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.moments} moments of {self.observers} observers, "
            f"{self.fixation_duration:g} s per fixation, seed {self.seed}{self.described()})"
        )


def _shown(images: ImageSet) -> tuple[Tensor, Tensor | None]:
    """Return what is learned from, and its labels."""
    if len(images.train) or images.unlabelled is None:
        return images.train, images.train_labels
    return images.unlabelled, None
