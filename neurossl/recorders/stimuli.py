"""A fixed set of stimuli that is shown again and again over learning: which they are, and what tells them from others.

What is recorded of them is comparable between moments, rules and seeds only where the very same stimuli were shown: the
digest of a set changes with every value of every stimulus, with their identifiers, images and labels, and with their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.checks import indices, whole
from neurossl.errors import EventError, OptionError
from neurossl.events import Fixation
from neurossl.store import Coords

ROWS = 256
"""Stimuli of which the digest is made at once: pixels become four times as large for it."""


class Stimuli:
    """Stimuli with identifiers.

    Parameters
    ----------
    shown : Tensor or array, (stimuli, *input shape), mapping of input populations to such, or ImageSet
        As the stream shows them, see `Simulation.respond`. Of an `ImageSet` the test images, resized and normalised as its
        views are, with their labels.
    ids : sequence of int, (stimuli,), optional
        Identifier of each, all different; 0, 1, ... by default.
    labels : sequence of int, (stimuli,), optional
        Class of each.
    images : sequence of int, (stimuli,), optional
        Index of the image that each is a view of, the same for several views of one image; the identifiers by default.

    Attributes
    ----------
    ids, images : array of int64, (stimuli,)
    labels : array of int64, (stimuli,), or None
    shown : Tensor or dict of Tensor
        A copy of what was handed in; pixels of 8 bits stay so, and become values from 0 to 1 as they are shown.

    Raises
    ------
    OptionError
        If they are no stimuli, there are none, an identifier is there twice, or numbers do not match.
    """

    def __init__(self, shown: Any, ids: Any = None, labels: Any = None, images: Any = None) -> None:
        if hasattr(shown, "test_labels"):  # an ImageSet, which knows how it is shown
            labels = shown.test_labels if labels is None else labels
            shown = shown.still()
        self.shown = _checked(shown)
        self.ids = np.arange(len(self)) if ids is None else self._numbers(ids, "ids")
        if len(np.unique(self.ids)) < len(self):
            values, counts = np.unique(self.ids, return_counts=True)
            raise OptionError(f"stimuli: ids: {values[counts > 1][0]} is there twice, expected one identifier per stimulus")
        self.images = self.ids if images is None else self._numbers(images, "images")
        self.labels = None if labels is None else self._numbers(labels, "labels")

    def __len__(self) -> int:
        return len(next(iter(self.shown.values())) if isinstance(self.shown, dict) else self.shown)

    def some(self, first: int, last: int) -> Tensor | dict[str, Tensor]:
        """Return the stimuli from the first up to the last, which is not included, as `Observation.respond` takes them."""
        if isinstance(self.shown, dict):
            return {name: Fixation(part[first:last]).stimulus for name, part in self.shown.items()}
        return Fixation(self.shown[first:last]).stimulus

    @property
    def coords(self) -> Coords:
        """What lies along the axis ``stimulus``: identifier, image and, where it is known, label."""
        along = {"stimulus": self.ids, "image": self.images, **({} if self.labels is None else {"label": self.labels})}
        return {name: ("stimulus", values) for name, values in along.items()}

    @cached_property
    def digests(self) -> dict[str, str]:
        """What tells these from other stimuli, part by part: values, identifiers, images, labels; 16 hexadecimal digits."""
        parts = self.shown if isinstance(self.shown, dict) else {"": self.shown}
        values = hashlib.sha256()
        for name, part in parts.items():
            values.update(f"{name} {tuple(part.shape)}".encode())
            for rows in part.split(ROWS):
                values.update(Fixation(rows).stimulus.cpu().to(torch.float32).contiguous().numpy().tobytes())
        found = {"values": values.hexdigest()[:16]}
        for name, numbers in (("ids", self.ids), ("images", self.images), ("labels", self.labels)):
            found[name] = hashlib.sha256(b"" if numbers is None else numbers.tobytes()).hexdigest()[:16]
        return found

    @property
    def digest(self) -> str:
        """What tells these from other stimuli: 32 hexadecimal digits."""
        return hashlib.sha256("".join(self.digests.values()).encode()).hexdigest()[:32]

    def state(self) -> dict[str, Tensor]:
        """Return the digests as tensors, which a checkpoint can hold."""
        return {name: torch.tensor(list(bytes.fromhex(d)), dtype=torch.uint8) for name, d in self.digests.items()}

    def require(self, state: Mapping[str, Tensor], who: str) -> None:
        """Make sure that these are the stimuli with which a run began.

        Parameters
        ----------
        state : mapping of str to Tensor
            Of those, as `state` returned it; empty where nothing was shown.
        who : str
            The recorder.

        Raises
        ------
        OptionError
            If they are not; names what differs.
        """
        mine = self.digests.items()
        other = [name for name, digest in mine if name in state and bytes(state[name].tolist()).hex() != digest]
        if other:
            raise OptionError(
                f"{who}: the run began with stimuli that have other {', '.join(other)}: give it the same, in the same "
                "order, or record in a run of its own"
            )

    def _numbers(self, given: Any, what: str) -> np.ndarray:
        try:
            found = np.asarray(given if not hasattr(given, "detach") else given.detach().cpu())
        except (TypeError, ValueError):
            found = np.empty(0, object)
        if found.dtype.kind not in "iu" or found.shape != (len(self),):
            kind = f"{found.dtype} of shape {found.shape}"
            raise OptionError(f"stimuli: {what}: expected one whole number per stimulus ({len(self)}), got {kind}")
        return found.astype(np.int64)

    def __repr__(self) -> str:
        return f"Stimuli({len(self)}, {self.digest[:8]})"


def chosen_neurons(asked: Any, size: int, generator: torch.Generator, what: str) -> np.ndarray:
    """Return which neurons of a population are meant: all (None), a number drawn at random, or indices, (neurons,).

    Raises
    ------
    OptionError
        If it is none of these.
    """
    count = neuron_count(asked, size, what)
    if asked is None or (_is_number(asked) and count == size):
        return np.arange(size)
    if _is_number(asked):
        return np.sort(torch.randperm(size, generator=generator)[:count].numpy())
    return indices(asked, size, what)


def neuron_count(asked: Any, size: int, what: str) -> int:
    """Return how many neurons of a population are meant."""
    if asked is None:
        return size
    return min(size, whole(asked, what)) if _is_number(asked) else len(indices(asked, size, what))


def _is_number(asked: Any) -> bool:
    return not isinstance(asked, str | slice) and np.ndim(asked) == 0


def _checked(shown: Any) -> Tensor | dict[str, Tensor]:
    """Return stimuli as tensors of floating-point numbers, or of pixels of 8 bits."""
    if isinstance(shown, Mapping):
        parts = {str(name): _checked(part) for name, part in shown.items()}
        if len({len(part) for part in parts.values()}) != 1:
            raise OptionError(f"stimuli: expected the same number for {', '.join(parts) or 'every input population'}")
        return parts  # type: ignore[return-value]
    if not isinstance(shown, Tensor | np.ndarray | list | tuple):
        raise OptionError(
            f"stimuli: expected images as the stream shows them, (stimuli, *input shape), or an ImageSet, got {shown!r}"
        )
    if isinstance(shown, np.ndarray) and shown.dtype == np.uint8:
        shown = torch.from_numpy(np.array(shown))  # which may be read-only, or turned round
    pixels = shown if isinstance(shown, Tensor) and shown.dtype == torch.uint8 else None
    try:
        floats = Fixation(shown if pixels is None else pixels[:1]).stimulus
    except EventError as reason:
        raise OptionError(f"stimuli: {str(reason).removeprefix('Fixation.stimulus: ')}") from None
    if not bool(torch.isfinite(floats).all()):
        raise OptionError("stimuli: expected finite numbers, got NaN or infinity")
    return (floats if pixels is None else pixels).detach().clone()  # somebody else may change what was handed in
