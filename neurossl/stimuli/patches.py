"""Patches of one image as a sequence of fixations, as CLAPP was published with."""

from typing import Any

import torch
from torch import Tensor

from neurossl.checks import one_of, whole
from neurossl.errors import StimulusError
from neurossl.events import Event, Fixation, Moment, Succession
from neurossl.generators import uniform
from neurossl.stimuli.streams import Stream
from neurossl.stimuli.views import Views


def patches_of(images: Tensor, patch: int, stride: int) -> Tensor:
    """Return the patches of images on a grid, the images of one place together.

    Parameters
    ----------
    images : Tensor, (images, channels, height, width)
    patch, stride : int
        Pixels.

    Returns
    -------
    Tensor, (places x images, channels, patch, patch)
        Places row by row from the top left.
    """
    grid = images.unfold(2, patch, stride).unfold(3, patch, stride)
    return grid.permute(2, 3, 0, 1, 4, 5).reshape(-1, images.shape[1], patch, patch)


class PatchSequence(Stream):
    """Every observer looks down the columns of a grid of patches of one image (Illing et al. 2021, arXiv 2010.08262).

    A moment shows all patches at once, (places x observers) rows, and says with `Succession` which comes how many steps
    later: the patch ``skip + k`` rows below in the same column, for k = 1 to ``steps``. A saccade leads to the same place of
    the image of another observer, the same for all places, drawn anew for every k and for predictions and retrodictions.

    Parameters
    ----------
    patch, stride : int
        Pixels; published 16 and 8, on crops of 64 pixels. ``stride`` is half a patch by default.
    steps, skip : int
        Published 5 and 1.
    transitions : {"either", "both"}
        Whether an observer makes a fixation or a saccade, by a coin for predictions and one for retrodictions (CLAPP), or is
        taught both (CLAPP-s).
    sampling : {"others", "all"}
        Whether a saccade leads to another observer's image, or, as in the published code, to any, the own included.
    **common
        As for `Stream`; at least 2 observers. Labels are those of the images, for every patch.

    Raises
    ------
    StimulusError
        If the images have too few patches in a column, or there is one observer.
    OptionError
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        views: Views | None = None,
        *,
        patch: int = 16,
        stride: int | None = None,
        steps: int = 5,
        skip: int = 1,
        transitions: str = "either",
        sampling: str = "others",
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, **common)
        one_of(transitions, ("either", "both"), "transitions")
        one_of(sampling, ("others", "all"), "sampling")
        self.patch = whole(patch, "PatchSequence: patch")
        self.stride = max(1, self.patch // 2) if stride is None else whole(stride, "PatchSequence: stride")
        self.steps, self.skip = whole(steps, "PatchSequence: steps"), whole(skip, "PatchSequence: skip", 0)
        self.transitions, self.sampling = transitions, sampling
        height, width = self.views.shape
        self.grid = tuple(1 + (size - self.patch) // self.stride for size in (height, width))
        if min(height, width) < self.patch or self.grid[0] <= self.steps + self.skip:
            least = self.patch + self.stride * (self.steps + self.skip)
            raise StimulusError(
                f"PatchSequence: {self.steps} steps after {self.skip} skipped need images of {least} pixels in height, got "
                f"{height}x{width}: smaller patches, or fewer steps"
            )
        if self.observers < 2:
            raise StimulusError("PatchSequence: 1 observer leaves no other object to look at: show at least 2")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a patch: of the input population."""
        return int(self.images.shape[1]), self.patch, self.patch

    def options(self) -> dict[str, Any]:
        """Return what the stream was made with, apart from images, labels and views."""
        names = "patch", "stride", "steps", "skip", "transitions", "sampling"
        return super().options() | {name: getattr(self, name) for name in names}

    def described(self) -> str:
        """Return the grid, and how far is looked ahead."""
        rows, columns = self.grid
        return f", {rows}x{columns} patches of {self.patch} pixels, {self.steps} steps"

    def moment(self, number: int) -> Moment:
        """Return all patches of the chosen images, and what follows what."""
        chosen = self.chosen(number)
        view = self.views(self.pictures(chosen, number + 1), self.generator(f"moment-{number}"))
        objects, (high, wide) = len(chosen), self.grid
        rows = torch.arange(high * wide * objects, device="cpu")
        later = torch.full((self.steps, len(rows)), -1, device="cpu")
        for k in range(self.steps):
            down = (self.skip + k + 1) * wide * objects
            later[k, : len(rows) - down] = rows[down:]
        draws = self.generator(f"negatives-{number}")
        shape = 2, self.steps, objects
        if self.sampling == "all":
            other = torch.randint(objects, shape, generator=draws, device="cpu")
        else:
            away = torch.randint(1, objects, shape, generator=draws, device="cpu")
            other = (torch.arange(objects, device="cpu") + away) % objects
        place = later.clamp(min=0) // objects * objects
        elsewhere = place + other.repeat(1, 1, high * wide)
        stays = None
        if self.transitions == "either":
            coins = uniform(2 * objects, generator=self.generator(f"transitions-{number}")).view(2, objects)
            stays = (coins < 0.5).repeat(1, high * wide)
        events: list[Event] = [
            Fixation(patches_of(view, self.patch, self.stride)),
            Succession(later, elsewhere, stays),
            *self.teaching(chosen, views=high * wide),
        ]
        return Moment(*events, duration=high * wide * self.fixation_duration, observers=objects)
