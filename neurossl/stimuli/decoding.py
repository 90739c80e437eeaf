"""Decoding of picture files: one file, and many ahead of their use by threads in the background.

Every picture becomes RGB or grey, of 8 bits, square and of one size: the shorter side is resized, the centre cropped.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from neurossl.device import available_cores
from neurossl.errors import StimulusError

_TOGETHER = 16


class Decoding(NamedTuple):
    """What becomes of a picture: its side in pixels, and whether its colours are reduced to luminance."""

    side: int
    grey: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 1 if self.grey else 3, self.side, self.side


def read_picture(file: Path, decoding: Decoding) -> np.ndarray:
    """Return a picture as uint8, (channels, side, side).

    Raises
    ------
    StimulusError
        If it cannot be read; names the file.
    """
    with _naming(file), Image.open(file) as image:
        deep = image.mode == "F" or image.mode.startswith("I")
        if not deep:
            # A JPEG several times too large is decoded at a half, a quarter or an eighth of its size.
            image.draft(None, (decoding.side, decoding.side))
        picture = Image.fromarray(_eight_bits(np.asarray(image))) if deep else image
        picture = picture.convert("RGB")
        pixels = _square(picture.convert("L") if decoding.grey else picture, decoding.side)
        return pixels[None] if decoding.grey else pixels.transpose(2, 0, 1)


def picture_size(file: Path) -> tuple[int, int]:
    """Return height and width of a picture, from the head of its file.

    Raises
    ------
    StimulusError
        If it cannot be read; names the file.
    """
    with _naming(file), Image.open(file) as image:
        return image.height, image.width


class _naming:
    """Turn the reasons why a picture cannot be read into one line with its path."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, reason: BaseException | None, trace: Any) -> None:
        if isinstance(reason, OSError | ValueError | SyntaxError | Image.DecompressionBombError):
            message = str(reason).split("\n")[0]
            raise StimulusError(
                f"image {self.file}: cannot be read ({message}); expected an image such as PNG or JPEG"
            ) from None


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Return 16-bit grey values as 8-bit ones; PIL's own conversion would turn everything above 255 white."""
    if not np.issubdtype(grey.dtype, np.integer) or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("neither 8 nor 16 bits per channel")
    return (grey.astype(np.float32) / 257).round().astype(np.uint8)


def _square(picture: Image.Image, side: int) -> np.ndarray:
    """Return a picture with its shorter side resized and its centre cropped, (side, side) or (side, side, 3)."""
    width, height = picture.size
    if (height, width) != (side, side):
        scale = side / min(height, width)
        wide, high = max(side, round(width * scale)), max(side, round(height * scale))
        top, left = (high - side) // 2, (wide - side) // 2
        resized = picture.resize((wide, high), Image.Resampling.BILINEAR)
        picture = resized.crop((left, top, left + side, top + side))
    return np.asarray(picture)


class Workers:
    """Threads that work in the background.

    Those of `concurrent.futures` are waited for when a program ends, those here are not: Ctrl-C ends it at once. After a
    fork the child starts threads of its own.

    Parameters
    ----------
    count : int, optional
        One per core by default, at most 8.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = count or min(8, available_cores())
        self._process = -1
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Have something done; the result or the exception is in the future that is returned."""
        if self._process != os.getpid():
            self._process, self._waiting = os.getpid(), SimpleQueue()
            for _ in range(self.count):
                threading.Thread(target=_work, args=(self._waiting,), daemon=True, name="decoding").start()
        future: Future[Any] = Future()
        self._waiting.put((future, work, arguments))
        return future


def _work(waiting: "SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]]") -> None:
    while True:
        future, work, arguments = waiting.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(work(*arguments))
            except BaseException as reason:
                future.set_exception(reason)
        del future, work, arguments


WORKERS = Workers()
"""Shared by all that is decoded in this process."""


def together(files: Sequence[Path]) -> list[Sequence[Path]]:
    """Return files in the groups in which they are decoded."""
    return [files[first : first + _TOGETHER] for first in range(0, len(files), _TOGETHER)]


def read_pictures(files: Sequence[Path], decoding: Decoding) -> list[np.ndarray]:
    """Return some pictures."""
    return [read_picture(file, decoding) for file in files]


def picture_sizes(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return heights and widths of some pictures."""
    return [picture_size(file) for file in files]


def results_ahead(work: Callable[..., list[Any]], files: Sequence[Path], *arguments: Any) -> Iterator[Any]:
    """Yield the results of ``work(files, *arguments)`` one by one and in order, while the next are being worked out."""
    pending: deque[Future[list[Any]]] = deque()
    groups = iter(together(files))
    try:
        while True:
            while len(pending) < 4 * WORKERS.count and (group := next(groups, None)) is not None:
                pending.append(WORKERS.submit(work, group, *arguments))
            if not pending:
                return
            yield from pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
