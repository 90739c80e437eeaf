"""Images that stay in their files: decoded ahead by threads in the background, for sets that are larger than memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.generators import concern_seed
from neurossl.stimuli.decoding import WORKERS, Decoding, read_pictures, together

_BATCHES_AHEAD = 3


def epoch_order(images: int, seed: int, epoch: int) -> Tensor:
    """Return the order in which an epoch shows images, (images,): a function of seed and epoch."""
    generator = torch.Generator().manual_seed(concern_seed(seed, f"stimuli/epoch-{epoch}"))
    return torch.randperm(images, generator=generator)


class StreamedImages:
    """Images of files, in the place of a tensor of uint8, (images, channels, side, side).

    ``images[index]`` are decoded pictures; `expect` has them decoded in the background beforehand.

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

    def __init__(self, files: Sequence[Path], decoding: Decoding) -> None:
        self.files = files
        self.decoding = decoding
        self._process = os.getpid()
        self._expected: dict[bytes, list[Future[list[np.ndarray]]]] = {}

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, channels, side, side)."""
        return (len(self.files), *self.decoding.shape)

    def expect(self, index: Tensor) -> None:
        """Have these pictures decoded in the background; of several requests the last three are kept."""
        key = index.numpy().tobytes()
        if self._process != os.getpid():
            # The threads that decode stay behind when a process forks.
            self._process = os.getpid()
            self._expected.clear()
        if key in self._expected:
            return
        while len(self._expected) >= _BATCHES_AHEAD:
            for future in self._expected.pop(next(iter(self._expected))):
                future.cancel()
        files = [self.files[number] for number in index.tolist()]
        self._expected[key] = [WORKERS.submit(read_pictures, group, self.decoding) for group in together(files)]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return pictures, (rows, channels, side, side).

        Raises
        ------
        StimulusError
            If a file cannot be read; names it.
        """
        index = index.cpu()
        self.expect(index)
        pixels = np.empty((len(index), *self.decoding.shape), np.uint8)
        row = 0
        for future in self._expected.pop(index.numpy().tobytes()):
            for picture in future.result():
                pixels[row] = picture
                row += 1
        return torch.from_numpy(pixels)

    def subset(self, index: Tensor) -> "StreamedImages":
        """Return some of the images, in this order; they stay in their files."""
        return StreamedImages([self.files[number] for number in index.tolist()], self.decoding)

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
        batches = epoch_order(len(self), seed, number).split(rows)
        for place, index in enumerate(batches):
            for following in batches[place : place + _BATCHES_AHEAD - 1]:
                self.expect(following)
            yield index, self[index]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_expected": {}}

    def __repr__(self) -> str:
        channels, side, _ = self.decoding.shape
        return f"StreamedImages({len(self)} files, decoded to {channels}x{side}x{side} when shown)"
