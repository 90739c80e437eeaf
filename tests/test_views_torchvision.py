"""Views of natural images against torchvision's transforms of single pictures: the same values, the same distribution."""

import colorsys
import statistics
import time
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pytest
import torch
from conftest import generator, image_set
from PIL import Image
from scipy.stats import chisquare, ks_2samp, kstest
from sklearn.datasets import load_sample_image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional, v2

from neurossl.stimuli import default_views
from neurossl.stimuli.views.colour import LUMINANCE, blend_, draw_jitter, jitter_, turn_hue_
from neurossl.stimuli.views.geometry import cut, draw_crops

SURE = 1e-3
"""Two samples that differ with less than this probability by chance are from different distributions. Seeds are fixed."""


@pytest.fixture(autouse=True)
def torchvisions_draws() -> Iterator[None]:
    """Torchvision draws from torch's global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """A photograph of 32 x 32 pixels."""
    return Image.fromarray(load_sample_image("china.jpg")[60:380, 150:470]).resize((32, 32), Image.Resampling.BILINEAR)


def as_tensor(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("shape", "scale"),
    [
        ((32, 32), (0.25, 1.0)),
        ((32, 32), (0.08, 1.0)),
        ((96, 96), (0.08, 1.0)),
        ((40, 24), (0.5, 1.0)),
        ((20, 90), (0.4, 0.9)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(shape: tuple[int, int], scale: tuple[float, float]) -> None:
    canvas = torch.empty(3, *shape)
    theirs = np.array([transforms.RandomResizedCrop.get_params(canvas, scale, (3 / 4, 4 / 3)) for _ in range(3000)])
    ours = draw_crops(3000, shape, scale, 0.0, generator(1))[:, :4].astype(float)
    assert np.array_equal(ours, ours.round()), "whole pixels"
    assert (ours >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= shape).all()
    for what in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 2] / box[:, 3],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: (box[:, 0] + box[:, 2] / 2) * (box[:, 1] + box[:, 3] / 2),
    ):
        assert ks_2samp(what(ours), what(theirs)).pvalue > SURE


@pytest.mark.parametrize("shape", [(10, 90), (90, 10)])
def test_where_no_box_fits_the_middle_is_shown(shape: tuple[int, int]) -> None:
    theirs = transforms.RandomResizedCrop.get_params(torch.empty(3, *shape), (0.9, 1.0), (3 / 4, 4 / 3))
    ours = draw_crops(50, shape, (0.9, 1.0), 0.0, generator(1))[:, :4]
    assert np.array_equal(ours, [theirs] * 50)


@pytest.mark.parametrize("size", [20, 32, 64])
def test_crops_are_those_of_pil(picture: Image.Image, size: int) -> None:
    """Enlarged and reduced, mirrored or not; PIL rounds to whole grey values, twice."""
    crops = draw_crops(60, (32, 32), (0.08, 1.0), 0.5, generator(2))
    ours = cut(as_tensor(picture).expand(60, -1, -1, -1), crops, (size, size))
    for row, (top, left, height, width, mirrored) in zip(ours, crops.astype(int).tolist(), strict=True):
        theirs = functional.resized_crop(picture, top, left, height, width, [size, size])
        theirs = functional.hflip(theirs) if mirrored else theirs
        assert float((row - as_tensor(theirs) / 255).abs().max()) < 1.6 / 255
    assert 15 < crops[:, 4].sum() < 45


def test_colours_are_those_of_torchvision() -> None:
    pictures = torch.rand(6, 3, 9, 9, generator=generator(4))
    pictures[5] = 0.5
    pictures[4, 1] = pictures[4, 0]
    for turn in (-0.5, -0.2, 0.0, 0.13, 0.5):
        ours = pictures.flatten(2).clone()
        turn_hue_(ours, torch.full((6, 1), 6 * turn), far=abs(turn) > 1 / 3)
        assert torch.allclose(ours.view_as(pictures), v2.functional.adjust_hue(pictures, turn), atol=1e-5)
    w = torch.tensor(LUMINANCE)
    for what, factors in (
        ("brightness", lambda f: [torch.tensor([f]), 0 * w, 0 * w]),
        ("contrast", lambda f: [torch.tensor([f]), 0 * w, (1 - f) * w / 81]),
        ("saturation", lambda f: [torch.tensor([f]), (1 - f) * w, 0 * w]),
    ):
        for factor in (0.2, 1.0, 1.8):
            ours = pictures.flatten(2).clone()
            blend_(ours, torch.cat(factors(factor)).expand(6, 1, 7))
            theirs = getattr(v2.functional, f"adjust_{what}")(pictures, factor)
            assert torch.allclose(ours.view_as(pictures), theirs, atol=1e-3)


def test_every_row_changes_colours_in_an_order_of_its_own() -> None:
    """Rows with all 24 orders, done at once, are what torchvision's functions give one after the other."""
    strengths = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8}
    jitter = draw_jitter(2400, (3, 25), strengths, 0.2, 1.0, generator(3))
    names = np.array(["brightness", "contrast", "saturation"])
    pictures = torch.rand(2400, 3, 5, 5, generator=generator(4))
    order = jitter.before.argsort()
    changed = pictures[torch.from_numpy(order)].flatten(2)
    jitter_(changed, type(jitter)(*(t[order] for t in jitter)))
    counts = dict.fromkeys(permutations((*names, "hue")), 0)
    for place, row in enumerate(order.tolist()):
        before = int(jitter.before[row])
        blends = jitter.blends[row, 3 - before : 6 - before]
        # Which factor is not zero tells which change it is.
        done = [str(names[2 if f[1] else 1 if f[4] else 0]) for f in blends.tolist()]
        done.insert(before, "hue")
        counts[tuple(done)] += 1
        if place % 20 == 0:
            picture = pictures[row]
            for name in done:
                index = done.index(name) - (done.index(name) > before)
                amount = float(jitter.turn[row]) / 6 if name == "hue" else float(blends[index, 0])
                picture = getattr(v2.functional, f"adjust_{name}")(picture, amount)
            assert torch.allclose(changed[place].view(3, 5, 5), picture, atol=3e-3)
    assert chisquare(list(counts.values())).pvalue > SURE
    factors = jitter.blends[:, :, 0][jitter.blends[:, :, 0] != 0]
    assert kstest(factors, "uniform", (0.2, 1.6)).pvalue > SURE
    assert kstest(jitter.turn / 6, "uniform", (-0.2, 0.4)).pvalue > SURE


def simclr(size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> transforms.Compose:
    """The published augmentations: PIL in, a normalised tensor out."""
    kernel = int(0.1 * size)
    jitter = transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(size, (0.25, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([transforms.GaussianBlur(kernel + 1 - kernel % 2)], 0.5),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )


def described(views: Tensor) -> dict[str, np.ndarray]:
    """Return what can be seen of views with values in [0, 1]: one number per view."""
    red, green, blue = views.unbind(1)
    mean = views.mean((2, 3)).clamp(0, 1).tolist()
    hue = np.array([colorsys.rgb_to_hsv(*rgb)[0] for rgb in mean])
    grey = (views * torch.tensor(LUMINANCE).view(3, 1, 1)).sum(1)
    return {
        "brightness": grey.mean((1, 2)).numpy(),
        "contrast": grey.std((1, 2)).numpy(),
        "saturation": (views.amax(1) - views.amin(1)).mean((1, 2)).numpy(),
        "red against green": (red - green).mean((1, 2)).numpy(),
        "hue": hue,
        "sharpness": (grey[:, :, 1:] - grey[:, :, :-1]).abs().mean((1, 2)).numpy(),
        "left against right": (grey[:, :, :16].mean((1, 2)) - grey[:, :, 16:].mean((1, 2))).numpy(),
        "above against below": (grey[:, :16].mean((1, 2)) - grey[:, 16:].mean((1, 2))).numpy(),
        "blue at the border": blue[:, 0].mean(1).numpy(),
    }


def test_views_are_distributed_as_torchvisions(picture: Image.Image) -> None:
    """The same photograph, 1,500 times through both."""
    count = 1500
    unit = simclr(32, (0.0,) * 3, (1.0,) * 3)
    theirs = torch.stack([unit(picture) for _ in range(count)])
    mine = image_set(as_tensor(picture)[None], 0.0, 1.0)
    views = default_views(mine)
    ours = views(mine.train.expand(count, -1, -1, -1), generator(5))
    for what, sample in described(ours).items():
        found = ks_2samp(sample, described(theirs)[what])
        assert found.pvalue > SURE, (what, found)
    # Per pixel: means differ by few standard errors, and variances by few per cent.
    error = ((ours.var(0) + theirs.var(0)) / count).sqrt()
    difference = (ours.mean(0) - theirs.mean(0)) / error
    assert float(difference.abs().max()) < 4.5
    assert float((ours.var(0) / theirs.var(0)).log().abs().max()) < 0.25
    for pixel in ((0, 0), (5, 20), (16, 16), (31, 9)):
        for channel in range(3):
            one, other = ours[:, channel, *pixel], theirs[:, channel, *pixel]
            # PIL rounds to 256 values, so both are.
            assert ks_2samp((one * 255).round().numpy(), (other * 255).round().numpy()).pvalue > SURE


@pytest.mark.slow
def test_views_are_many_times_faster_than_torchvisions(picture: Image.Image) -> None:
    """Twenty times on a quiet machine (`neurossl run view_speed`); half of that on a busy one is asked for here."""
    mine = image_set(as_tensor(picture).expand(256, -1, -1, -1).contiguous(), 0.5, 0.25)
    views, one_by_one = default_views(mine), simclr(32, mine.mean, mine.std)
    ratios = []
    for repeat in range(7):
        start = time.perf_counter()
        torch.stack([one_by_one(picture) for _ in range(64)])
        middle = time.perf_counter()
        views(mine.train, generator(repeat))
        ratios.append(4 * (middle - start) / (time.perf_counter() - middle))
    assert statistics.median(ratios) > 10
