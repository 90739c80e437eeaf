"""Data sets that come with scikit-learn: handwritten digits, and patches of two photographs."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from neurossl.stimuli.datasets.access import check_memory
from neurossl.stimuli.datasets.images import ImageSet
from neurossl.stimuli.datasets.pixels import statistics
from neurossl.surroundings import imported

_FRACTION_TESTED = 0.2
_PATCHES = 512, 128


def load_digits() -> ImageSet:
    """Return scikit-learn's digits, every class split 80 : 20 in the order of the file."""
    datasets = imported("sklearn.datasets")
    bunch = datasets.load_digits()
    small = torch.from_numpy(bunch.images).to(torch.float32)[:, None] * (255 / 16)
    large = F.interpolate(small, (16, 16), mode="bilinear", align_corners=False).round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(bunch.target).long()
    tested = torch.zeros(len(labels), dtype=torch.bool, device="cpu")
    for label in range(10):
        mine = (labels == label).nonzero()[:, 0]
        tested[mine[len(mine) - round(_FRACTION_TESTED * len(mine)) :]] = True
    return ImageSet(
        name="digits",
        classes=tuple(str(d) for d in range(10)),
        train=large[~tested],
        train_labels=labels[~tested],
        test=large[tested],
        test_labels=labels[tested],
        # No normalisation: the background of handwriting stays silent.
        mean=(0.0,),
        std=(1.0,),
        source="scikit-learn load_digits, 8 x 8 enlarged to 16 x 16 (bilinear); tested with the last 20 % of every class",
    )


def load_photographs(height: int = 32, width: int = 32) -> ImageSet:
    """Return patches of scikit-learn's two photographs, a temple and a flower: natural images where there is no data set.

    The left four fifths of each are learned from, the right fifth is tested with. Patches are twice as large as the images
    where there is room, and of the same proportions.
    """
    datasets = imported("sklearn.datasets")
    needed = sum(_PATCHES) * 2 * 3 * height * width
    check_memory(needed, f"photographs: patches of {height} x {width} pixels need", "give a smaller size")
    draw = np.random.default_rng(0)
    parts: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    counts = {"train": _PATCHES[0], "test": _PATCHES[1]}
    for photograph in datasets.load_sample_images().images:
        split = photograph.shape[1] * 4 // 5
        for part, region in (("train", photograph[:, :split]), ("test", photograph[:, split:])):
            scale = min(2, region.shape[0] / height, region.shape[1] / width)
            high, wide = max(1, round(scale * height)), max(1, round(scale * width))
            for _ in range(counts[part]):
                top = int(draw.integers(0, region.shape[0] - high + 1))
                left = int(draw.integers(0, region.shape[1] - wide + 1))
                patch = Image.fromarray(region[top : top + high, left : left + wide])
                small = patch.resize((width, height), Image.Resampling.BILINEAR)
                parts[part].append(np.asarray(small).transpose(2, 0, 1))
    train, test = (torch.from_numpy(np.stack(parts[part])) for part in ("train", "test"))
    mean, std = statistics(train)
    return ImageSet(
        name="photographs",
        classes=("temple", "flower"),
        train=train,
        train_labels=torch.arange(2, device="cpu").repeat_interleave(_PATCHES[0]),
        test=test,
        test_labels=torch.arange(2, device="cpu").repeat_interleave(_PATCHES[1]),
        mean=mean,
        std=std,
        source="scikit-learn load_sample_images, random patches; tested with the right fifth of both photographs",
    )
