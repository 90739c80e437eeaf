"""Two ways to compute the same random views: torchvision's transforms of single pictures, and ours of many at once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import transforms

from neurossl.device import available_cores
from neurossl.errors import OptionError
from neurossl.generators import Generators
from neurossl.stimuli import ImageSet, Views, load_images
from neurossl.stimuli.views import SIGMA

THEIRS, OURS = "torchvision", "neurossl"
MOST_BYTES = 2 * 10**9
LEAST_SECONDS = 0.05
"""Between two looks at the clock."""


def one_by_one(views: Views, as_tensor: bool = True) -> transforms.Compose:
    """Return torchvision's transforms of a PIL picture with the parameters of views."""
    chain: list[Any] = []
    if views.crop_scale != (1.0, 1.0):
        chain.append(transforms.RandomResizedCrop(views.size, views.crop_scale))
    if views.flip:
        chain.append(transforms.RandomHorizontalFlip(views.flip))
    if views.jitter:
        jitter = transforms.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
        chain.append(transforms.RandomApply([jitter], views.jitter))
    if views.grayscale:
        chain.append(transforms.RandomGrayscale(views.grayscale))
    if views.blur:
        chain.append(transforms.RandomApply([transforms.GaussianBlur(views.blur_kernel, SIGMA)], views.blur))
    if as_tensor:
        chain += [transforms.ToTensor(), transforms.Normalize(views.mean, views.std)]
    return transforms.Compose(chain)


def single_steps(views: Views) -> dict[str, Views]:
    """Return views of which each does one thing alone."""
    v = views
    return {
        "crop and flip": Views(v.size, crop_scale=v.crop_scale, flip=v.flip),
        "colour jitter": replace(v, crop_scale=(1.0, 1.0), flip=0.0, grayscale=0.0, blur=0.0, mean=(0.0,), std=(1.0,)),
        "grayscale": Views(v.size, grayscale=v.grayscale),
        "blur": Views(v.size, blur=v.blur, blur_kernel=v.blur_kernel),
        "tensor, normalise": Views(v.size, mean=v.mean, std=v.std),
    }


class Contest:
    """The same pictures for both: uint8 on the device, and in PIL's form.

    Parameters
    ----------
    pixels : Tensor of uint8, (images, 3, size, size)
    device : torch.device
    seed : int
    """

    def __init__(self, pixels: Tensor, device: torch.device, seed: int) -> None:
        self.pixels = pixels.to(device)
        self.pictures = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]
        self.seed = seed

    def rates(self, views: Views, rows: int, repeats: int, as_tensor: bool = True) -> dict[str, list[float]]:
        """Return views per second of both, measured in turns after one turn that does not count."""
        transform = one_by_one(views, as_tensor)
        generator = Generators(self.seed)["stimuli/view_speed"]
        pixels, pictures = self.pixels[:rows].contiguous(), self.pictures[:rows]

        def theirs() -> None:
            shown = [transform(picture) for picture in pictures]
            if as_tensor:
                torch.stack(shown)

        def ours() -> None:
            views(pixels, generator)
            if pixels.device.type == "cuda":
                torch.cuda.synchronize(pixels.device)

        turns = [{THEIRS: _rate(theirs, rows), OURS: _rate(ours, rows)} for _ in range(repeats + 1)][1:]
        return {who: [turn[who] for turn in turns] for who in (THEIRS, OURS)}


def _rate(compute: Callable[[], None], rows: int) -> float:
    begun, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < LEAST_SECONDS:
        compute()
        done += rows
    return done / elapsed


def agree(picture: Tensor, views: Views, count: int, seed: int) -> dict[str, float]:
    """Return how probable differences as large as those between both are by chance (two-sample Kolmogorov-Smirnov)."""
    plain = replace(views, mean=(0.0,) * 3, std=(1.0,) * 3)
    pil, transform = Image.fromarray(picture.permute(1, 2, 0).numpy()), one_by_one(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theirs = torch.stack([transform(pil) for _ in range(count)])
    ours = plain(picture.expand(count, -1, -1, -1), Generators(seed)["stimuli/agreement"])
    looks: dict[str, Callable[[Tensor], Tensor]] = {
        "brightness": lambda shown: shown.mean((1, 2, 3)),
        "contrast": lambda shown: shown.std((1, 2, 3)),
        "saturation": lambda shown: (shown.amax(1) - shown.amin(1)).mean((1, 2)),
    }
    return {name: float(ks_2samp(look(ours).numpy(), look(theirs).numpy()).pvalue) for name, look in looks.items()}


def coloured_images(dataset: str, data_dir: str | None, size: int, count: int, seed: int) -> ImageSet:
    """Return coloured images of this size, as many as the largest batch shows; fewer images are shown again."""
    images = load_images(dataset, data_dir=data_dir, size=size)
    if images.shape[0] != 3:
        raise OptionError(f"dataset {dataset!r} has no colours; expected coloured images, such as photographs")
    if not len(images.train):
        raise OptionError(f"dataset {dataset!r}: it has no labelled images to learn from; give class folders")
    chosen = torch.randperm(len(images.train), generator=Generators(seed)["images"]).repeat(-(-count // len(images.train)))
    return replace(images, train=images.train[chosen[:count]], train_labels=images.train_labels[chosen[:count]])


def checked_sizes(
    usual: Mapping[str, Any],
    size: int | None,
    repeats: int | None,
    batch: Sequence[int] | None,
    threads: Sequence[int] | None,
    tiny: bool,
) -> tuple[int, int, list[int], list[int]]:
    """Return size, repeats, batches and numbers of threads: what is given, or what is usual."""
    cores = available_cores()
    side, times = int(usual["size"] if size is None else size), int(usual["repeats"] if repeats is None else repeats)
    batches = list(usual["batch"] if batch is None else batch)
    counts = list(threads) if threads is not None else [1] if tiny else [n for n in (1, 2) if n <= cores]
    for name, numbers, most in (("size", [side], 4096), ("batch", batches, 10**6), ("threads", counts, cores)):
        if not numbers or not all(1 <= n <= most for n in numbers):
            given = ", ".join(map(str, numbers)) or "none"
            raise OptionError(f"{name}: expected whole numbers from 1 to {most}, got {given}")
    if 3 * 4 * max(batches) * side * side > MOST_BYTES or times > 10**6:
        raise OptionError(
            f"batch {max(batches)} of size {side}, repeats {times}: expected at most {MOST_BYTES / 1e9:.0f} GB of views "
            "at a time, and a million repeats"
        )
    if times < 2 or side < 8:
        raise OptionError(f"expected at least 2 repeats and 8 pixels, got repeats = {times} and size = {side}")
    return side, times, batches, counts
