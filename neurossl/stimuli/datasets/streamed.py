"""Images that stay in their files: decoded ahead by threads in the background, for sets that are larger than memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import StimulusError
from neurossl.generators import concern_seed
from neurossl.stimuli.datasets.access import listing_digest
from neurossl.stimuli.datasets.decoding import Decoding, read_pictures
from neurossl.stimuli.datasets.workers import WORKERS, together

_BATCHES_AHEAD = 3


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch shows images, (images,): a function of seed and epoch."""
    generator = torch.Generator().manual_seed(concern_seed(seed, f"stimuli/epoch-{epoch}"))
    return torch.randperm(images, generator=generator, device="cpu")


class ImageIndexError(StimulusError, IndexError):
    """An index that images do not have."""


class StreamedImages:
    """Images of files, in the place of a tensor of uint8, (images, channels, height, width).

    ``images[index]`` are decoded pictures; `expect` has them decoded in the background beforehand. Every index that a tensor
    takes for its first axis is taken: a number, a slice, a list, an array, a mask.

    Parameters
    ----------
    files : sequence of Path
    decoding : Decoding
        Size and colours.

    Examples
    --------
    >>> for index, pixels in images.epoch(0, rows=256, seed=1):  # doctest: +SKIP
    ...     learn(views(pixels, generator), labels[index])
    """

    dtype = torch.uint8
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, files: Sequence[Path], decoding: Decoding) -> None:
        self.files = files
        self.decoding = decoding
        self._process = os.getpid()
        self._expected: dict[bytes, list[Future[list[np.ndarray]]]] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(len(self)):
            yield self[number]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, channels, height, width)."""
        return (len(self.files), *self.decoding.shape)

    @cached_property
    def _numbers(self) -> Tensor:
        """The number of every file: whatever index a tensor takes finds in it which files are meant."""
        return torch.arange(len(self.files), device="cpu")

    def _places(self, index: Any) -> Tensor:
        """Return which files an index means, of the shape that it selects.

        Raises
        ------
        ImageIndexError
            If there are no such images, or the index is none for the first axis.
        """
        if isinstance(index, tuple) or index is None or index is ...:
            raise ImageIndexError(
                f"streamed images: expected an index of images alone, got {index!r}: index what it returns"
            )
        try:
            if not isinstance(index, int | slice):
                index = index.cpu() if isinstance(index, Tensor) else torch.from_numpy(_array(index))
                # To torch, a tensor of uint8 is a mask, and other small integers are no index.
                index = index if index.dtype == torch.bool or index.is_floating_point() else index.long()
            return self._numbers[index]
        except (IndexError, TypeError, ValueError) as reason:
            message = str(reason).split("\n")[0]
            raise ImageIndexError(f"streamed images: no such index of {len(self)} images ({message})") from None

    def expect(self, index: Any) -> None:
        """Have these pictures decoded in the background; of several requests the last three are kept."""
        self._request(self._places(index).flatten())

    def _request(self, places: Tensor) -> list[Future[list[np.ndarray]]]:
        """Return the pictures to be, by the groups in which they are decoded."""
        key = places.numpy().tobytes()
        if self._process != os.getpid():
            # The threads that decode stay behind when a process forks.
            self._process = os.getpid()
            self._expected.clear()
        requested = self._expected.get(key)
        if requested is None:
            for oldest in tuple(self._expected)[: 1 - _BATCHES_AHEAD]:
                for future in self._expected.pop(oldest, ()):
                    future.cancel()
            groups = together([self.files[number] for number in places.tolist()])
            requested = [WORKERS.submit(read_pictures, group, self.decoding) for group in groups]
            self._expected[key] = requested
        return requested

    def __getitem__(self, index: Any) -> Tensor:
        """Return pictures, (rows, channels, height, width), or one, (channels, height, width).

        Raises
        ------
        StimulusError
            If a file cannot be read; names it.
        ImageIndexError
            If there are no such images.
        """
        places = self._places(index)
        flat = places.flatten()
        requested = self._request(flat)
        self._expected.pop(flat.numpy().tobytes(), None)
        pixels = np.empty((len(flat), *self.decoding.shape), np.uint8)
        groups = together([self.files[number] for number in flat.tolist()])
        row = 0
        for group, future in zip(groups, requested, strict=True):
            try:
                pictures = future.result()
            except CancelledError:
                # Another thread asked for so much meanwhile that this was given up.
                pictures = read_pictures(group, self.decoding)
            pixels[row : row + len(group)] = pictures
            row += len(group)
        return torch.from_numpy(pixels).view(*places.shape, *self.decoding.shape)

    def subset(self, index: Any) -> "StreamedImages":
        """Return some of the images, in this order; they stay in their files."""
        return StreamedImages([self.files[number] for number in self._places(index).flatten().tolist()], self.decoding)

    def digest(self) -> str:
        """Return a digest of the names of the files and of their sizes, and how they are decoded."""
        root = os.path.commonpath([file.parent for file in self.files]) if self.files else ""
        return f"{listing_digest(self.files, Path(root))} {'x'.join(map(str, self.decoding.shape))}"

    def epoch(self, number: int, rows: int, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield which images an epoch shows and these images, every one once, while the next are being decoded.

        Parameters
        ----------
        number : int
        rows : int
            Images at a time; the last are fewer.
        seed : int
            Seed and epoch determine the order.
        """
        batches = epoch_order(len(self), seed, number).split(whole(rows, "StreamedImages.epoch: rows"))
        for place, index in enumerate(batches):
            for following in batches[place : place + _BATCHES_AHEAD - 1]:
                self.expect(following)
            yield index, self[index]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_numbers"} | {"_expected": {}}

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.decoding.shape))
        return f"StreamedImages({len(self)} files, decoded to {shape} when shown)"


def _array(index: Any) -> np.ndarray:
    """Return an index in an array or a sequence as an array; an empty list holds no numbers."""
    found = np.asarray(index)
    return found.astype(np.int64) if found.dtype.kind in "ui" or not found.size else found
