"""Streams of moments for rules that learn in two phases, awake and asleep: forward-forward and SCFF."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neurossl.checks import whole
from neurossl.errors import OptionError, StimulusError
from neurossl.events import Fixation, Moment, Phase
from neurossl.stimuli.streams import Stream
from neurossl.stimuli.views import Views


def write_label(stimulus: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Return images with the label written into the first ``classes`` pixels of the top row.

    Parameters
    ----------
    stimulus : Tensor, (rows, channels, height, width)
    labels : Tensor of int64, (rows,), or None
        The label's pixel becomes 1 and the others 0; None writes the neutral label, 0.1 everywhere.
    classes : int

    Raises
    ------
    StimulusError
        If the images are narrower than there are classes.
    """
    _check_room(stimulus.shape[-1], classes)
    written = stimulus.clone()
    neutral = torch.full((len(stimulus), classes), 0.1, dtype=torch.float32, device="cpu")
    code = neutral if labels is None else F.one_hot(labels, classes)
    written[:, :, 0, :classes] = code.to(written)[:, None]
    return written


def _check_room(width: int, classes: int) -> None:
    if width < classes:
        raise StimulusError(f"label in the image: {classes} classes need images at least as wide, got {width} pixels")


class WakeSleep(Stream):
    """Forward-forward: rows ``[awake; asleep]``, one of each per observer.

    Parameters
    ----------
    classes : int, optional
        As many as an ImageSet has by default.
    negatives : {"labels", "hybrids"}
        labels: the right label is written into the image awake, a wrong one into the same view asleep (Hinton 2022, 3.3).
        hybrids: asleep, a patchwork of two images joined by a smooth random mask (3.2); nothing is written.
    **common
        As for `Stream`.

    Raises
    ------
    StimulusError
        If there is no wrong label, no room for the label or no other image, or if a label is none of the classes.
    """

    def __init__(
        self,
        images: Any,
        labels: Any = None,
        views: Views | None = None,
        classes: int | None = None,
        *,
        negatives: str = "labels",
        **common: Any,
    ) -> None:
        super().__init__(images, labels, views, **common)
        if classes is None:
            classes = 0 if self.image_set is None else len(self.image_set.classes)
        self.classes = whole(classes, "WakeSleep: classes", 0)
        if negatives not in ("labels", "hybrids"):
            raise OptionError(f"negatives: expected 'labels' or 'hybrids', got {negatives!r}")
        if negatives == "labels":
            if self.labels is None or self.classes < 2:
                found = "no labels" if self.labels is None else f"{self.classes}"
                raise StimulusError(f"wrong labels need at least 2 classes, got {found}")
            _check_room(self.views.shape[1], self.classes)
            if int(self.labels.max()) >= self.classes:
                found = f"{int(self.labels.min())} to {int(self.labels.max())}"
                raise StimulusError(f"label in the image: expected labels 0 to {self.classes - 1}, got {found}")
        elif self.observers < 2:
            raise StimulusError("hybrids join the images of two observers, got 1: raise observers")
        self.negatives = negatives

    def options(self) -> dict[str, Any]:
        """Return what the stream was made with, apart from images, labels and views."""
        return super().options() | {"classes": self.classes, "negatives": self.negatives}

    def described(self) -> str:
        """Return what is shown asleep."""
        return f", asleep {'a wrong label' if self.negatives == 'labels' else 'hybrids'}"

    def moment(self, number: int) -> Moment:
        """Return the views of the chosen images awake and asleep."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        view = self.views(self.pictures(chosen, number + 1), generator)
        other = self.generator(f"negatives-{number}")
        if self.negatives == "labels" and self.labels is not None:
            labels = self.labels[chosen]
            wrong = (labels + torch.randint(1, self.classes, labels.shape, generator=other, device="cpu")) % self.classes
            awake, asleep = write_label(view, labels, self.classes), write_label(view, wrong, self.classes)
        else:
            mask = hybrid_mask(len(view), view.shape[-2], view.shape[-1], other).to(view.device)
            # A mask that hides nothing, as in very small images, would leave the view as it is.
            mask &= ~mask.flatten(1).all(1).view(-1, 1, 1, 1)
            awake, asleep = view, torch.where(mask, view, view.roll(1, 0))
        events = Fixation(torch.cat([awake, asleep])), Phase(_awake_asleep(len(view))), *self.teaching(chosen, views=2)
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))


def hybrid_mask(rows: int, height: int, width: int, generator: torch.Generator, blurs: int = 6) -> Tensor:
    """Return random masks with large regions: bits blurred with [1/4, 1/2, 1/4] both ways, thresholded at 1/2.

    Returns
    -------
    Tensor of bool, (rows, 1, height, width)
    """
    bits = torch.randint(0, 2, (rows, 1, height, width), generator=generator, device="cpu").to(torch.float32)
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float32, device="cpu")
    # Autocast would round the convolutions, and with them the regions.
    with torch.autocast("cpu", enabled=False):
        for _ in range(blurs):
            bits = F.conv2d(F.pad(bits, (1, 1, 0, 0), mode="replicate"), kernel.view(1, 1, 1, 3))
            bits = F.conv2d(F.pad(bits, (0, 0, 1, 1), mode="replicate"), kernel.view(1, 1, 3, 1))
    return bits > 0.5


def _awake_asleep(rows: int) -> Tensor:
    """Return the signs of as many rows awake and asleep."""
    return torch.tensor([1.0, -1.0], dtype=torch.float32, device="cpu").repeat_interleave(rows)


def doubled(stimulus: Tensor) -> Tensor:
    """Return images twice side by side, (rows, 2 x channels, ...): how SCFF is shown a single image."""
    return torch.cat([stimulus, stimulus], 1)


class DoubledInput(Stream):
    """SCFF: awake the same view in both halves of a doubled input, asleep the view of another image in the second half.

    Rows are ``[awake; asleep]``, (2 x observers, 2 x channels, height, width): the first half of the channels is one image,
    the second half the other. The other image is that of the observer some random, non-zero number of places away.

    Parameters
    ----------
    **common
        As for `Stream`; at least 2 observers.
    """

    def __init__(self, images: Any, labels: Any = None, views: Views | None = None, **common: Any) -> None:
        super().__init__(images, labels, views, **common)
        if self.observers < 2:
            raise StimulusError("DoubledInput joins the images of two observers, got 1: raise observers")

    def moment(self, number: int) -> Moment:
        """Return doubled views awake and asleep."""
        chosen = self.chosen(number)
        generator = self.generator(f"moment-{number}")
        view = self.views(self.pictures(chosen, number + 1), generator)
        away = int(torch.randint(1, len(view), (1,), generator=self.generator(f"negatives-{number}"), device="cpu"))
        stimulus = torch.cat([doubled(view), torch.cat([view, view.roll(away, 0)], 1)])
        events = Fixation(stimulus), Phase(_awake_asleep(len(view))), *self.teaching(chosen, views=2)
        return Moment(*events, duration=2 * self.fixation_duration, observers=len(chosen))
