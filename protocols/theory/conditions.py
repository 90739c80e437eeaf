"""The conditions that `theory_equivalence` compares: which hold, which is broken, in which network, on which batches.

All set-ups are those of figures 2, 3a and 4b of Wu et al. 2026 (arXiv 2601.21683), scaled down to the images where these are
smaller than MNIST's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neurossl.anatomy.architectures import linear_stack
from neurossl.anatomy.network import Network
from neurossl.stimuli import ImageSet, Stream, ViewPairs, Views
from protocols.theory.patches import ErasedViews, PatchPairs

SMOOTH, EXACT, TRANSPORTED = 1e-6, 1e-10, 1e-12
"""Bounds of the relative error: B at its optimum by search, in closed form, and transported from the top."""


@dataclass(frozen=True)
class Condition:
    """What holds and what does not.

    Attributes
    ----------
    key : str
        Name of the folder.
    figure : str
        Where it belongs.
    curve : str
        What it is called in its figure.
    widths : {"equal", "decreasing", "maps"}
        Dense populations of one size or of half the size each; four convolutions of 2x2 patches.
    contrast, context : str
        f, and where the context comes from; see `Contrastive`.
    predictions : {"optimal", "stale", "random", "transported"}
        B below the top: at the optimum of the own loss; at that for the batch before; as drawn; or ``Q^T B_top Q``
        (``Q^T B_top`` with the context of the top).
    transfer, init : str
    bias : bool
        Of the feedforward pathways.
    softer : float
        Factor on the weight decay of B below the top.
    pools : tuple of int, optional
        Score pooling of maps, per population.
    bound : float, optional
        Of the relative error, where theory says that the updates are equal.
    """

    key: str
    figure: str
    curve: str
    widths: str = "equal"
    contrast: str = "softplus"
    context: str = "lateral"
    predictions: str = "optimal"
    transfer: str = "linear"
    init: str = "orthogonal"
    bias: bool = False
    softer: float = 1.0
    pools: tuple[int, ...] | None = None
    bound: float | None = None

    @property
    def decay(self) -> float:
        """Weight decay of B: lambda of the published simulations."""
        return 0.02 if self.widths == "maps" else 0.01


GLOBAL, SPATIAL, EVERYWHERE = (8, 4, 2, 1), (2, 1, 1, 1), (1, 1, 1, 1)
_TRANSPORTED: dict[str, Any] = {"predictions": "transported", "init": "uniform", "bound": TRANSPORTED}
CONDITIONS = (
    Condition("fig2/all-conditions", "2", "all conditions met", bound=SMOOTH),
    Condition("fig2/not-orthogonal", "2", "W not orthogonal", init="uniform"),
    Condition("fig2/relu", "2", "ReLU", transfer="relu"),
    Condition("fig2/relu-not-orthogonal", "2", "ReLU, W not orthogonal", transfer="relu", init="uniform"),
    Condition("fig2/random-predictions", "2", "random fixed B", predictions="random"),
    Condition("further/biases", "further", "biases", bias=True),
    Condition("further/weaker-decay", "further", "weaker decay below the top", softer=0.1),
    Condition("further/stale-predictions", "further", "B of the batch before", predictions="stale"),
    Condition("theorem/linear", "theorem", "linear f", contrast="linear", bound=EXACT),
    Condition("theorem/linear-feedback", "theorem", "linear f, direct feedback", "equal", "linear", "top", bound=EXACT),
    Condition("theorem/softplus-feedback", "theorem", "softplus f, direct feedback", context="top", bound=SMOOTH),
    Condition("theorem/transported", "theorem", "B transported", "decreasing", **_TRANSPORTED),
    Condition(
        "theorem/transported-feedback", "theorem", "B transported, direct", "decreasing", context="top", **_TRANSPORTED
    ),
    Condition("theorem/transported-maps", "theorem", "B transported, maps", "maps", pools=EVERYWHERE, **_TRANSPORTED),
    Condition(
        "theorem/transported-maps-feedback",
        "theorem",
        "B transported, maps, direct",
        "maps",
        context="top",
        pools=EVERYWHERE,
        **_TRANSPORTED,
    ),
    Condition("fig3a/linear-lateral", "3a", "lateral context", "decreasing", "linear"),
    Condition("fig3a/linear-feedback", "3a", "direct feedback", "decreasing", "linear", "top"),
    Condition("fig3a/softplus-lateral", "3a", "lateral context", "decreasing"),
    Condition("fig3a/softplus-feedback", "3a", "direct feedback", "decreasing", context="top"),
    Condition("fig4b/linear-global", "4b", "global pooling", "maps", "linear", pools=GLOBAL),
    Condition("fig4b/linear-spatial", "4b", "spatial", "maps", "linear", pools=SPATIAL),
    Condition("fig4b/linear-spatial-feedback", "4b", "spatial, direct feedback", "maps", "linear", "top", pools=SPATIAL),
    Condition("fig4b/softplus-global", "4b", "global pooling", "maps", pools=GLOBAL),
    Condition("fig4b/softplus-spatial", "4b", "spatial", "maps", pools=SPATIAL),
    Condition("fig4b/softplus-spatial-feedback", "4b", "spatial, direct feedback", "maps", context="top", pools=SPATIAL),
)


@dataclass(frozen=True)
class Setting:
    """What all conditions share.

    Attributes
    ----------
    part : str
    batches, observers : int
    mean, std : float
        Of all training pixels, with which the stimuli are normalised.
    width, channels : int
        Neurons of V1, and channels of maps.
    device : str
    """

    part: str
    batches: int
    observers: int
    mean: float
    std: float
    width: int
    channels: int
    device: str


def network_for(condition: Condition, setting: Setting, inputs: Sequence[int]) -> Network:
    """Return the network of a condition, without weights.

    Parameters
    ----------
    condition : Condition
    setting : Setting
    inputs : (channels, height, width)
        Of a stimulus.
    """
    options: dict[str, Any] = {"transfer": condition.transfer, "init": condition.init, "bias": condition.bias}
    if condition.widths == "maps":
        return linear_stack(inputs, [setting.channels] * 4, kernel=2, **options)
    decreasing = condition.widths == "decreasing"
    return linear_stack(inputs, [setting.width >> depth if decreasing else setting.width for depth in range(6)], **options)


def stream_for(condition: Condition, setting: Setting, images: ImageSet, seed: int) -> Stream:
    """Return the batches of a condition: quarters of images, or pairs of crops for maps."""
    shown, labels = (images.train, images.train_labels) if setting.part == "train" else (images.test, images.test_labels)
    mean, std = (setting.mean,), (setting.std,)
    last = setting.batches * setting.observers
    common: dict[str, Any] = {"observers": setting.observers, "moments": setting.batches, "seed": seed}
    if condition.widths == "maps":
        views = ErasedViews(16, crop_scale=(0.15, 1.0), mean=mean, std=std)
        return ViewPairs(shown[:last], labels[:last], views, **common)
    return PatchPairs(shown[:last], labels[:last], Views(images.shape[1], mean=mean, std=std), **common)
