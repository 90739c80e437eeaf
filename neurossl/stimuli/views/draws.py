"""What is drawn for views before any pixel is touched, on the CPU whatever the device."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neurossl.stimuli.views.colour import Jitter


class Draws(NamedTuple):
    """What happens to every row; None for what happens to none.

    Attributes
    ----------
    crops : array, (rows, 5)
        As from `draw_crops`.
    maps : array, (rows, 2, 3), optional
        Affine maps, in place of crops, where views are turned, shifted or zoomed.
    jitter : Jitter, optional
    grey : array of bool, (rows,), optional
    sigma : array, (rows,), optional
        Width of the blur, pixels; 0 for none.
    """

    crops: np.ndarray
    maps: np.ndarray | None
    jitter: Jitter | None
    grey: np.ndarray | None
    sigma: np.ndarray | None

    @classmethod
    def joined(cls, parts: Sequence["Draws"]) -> "Draws":
        """Return the draws of all parts, one after the other."""
        if len(parts) == 1:
            return parts[0]

        def all_of(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
            there = [array for array in arrays if array is not None]
            return np.concatenate(there) if there else None

        crops, maps, jitters, grey, sigma = zip(*parts, strict=True)
        jitter = None if jitters[0] is None else Jitter(*map(np.concatenate, zip(*jitters, strict=True)))
        return cls(np.concatenate(crops), all_of(maps), jitter, all_of(grey), all_of(sigma))

    def rows(self, index: np.ndarray) -> "Draws":
        """Return the draws of some rows."""
        maps, grey, sigma = (None if a is None else a[index] for a in (self.maps, self.grey, self.sigma))
        jitter = None if self.jitter is None else Jitter(*(a[index] for a in self.jitter))
        return Draws(self.crops[index], maps, jitter, grey, sigma)
