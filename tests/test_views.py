"""Random views: functions of a generator, movements, colours and blur in their ranges."""

from typing import Any

import pytest
import torch
from conftest import generator, image_set
from torchvision.transforms import v2

from neurossl.errors import OptionError, StimulusError
from neurossl.stimuli import ImageSet, Views, default_views


def test_views_are_functions_of_the_generator(digits: ImageSet) -> None:
    views = default_views(digits)
    images = digits.train[:50]
    assert torch.equal(views(images, generator(1)), views(images, generator(1)))
    assert not torch.equal(views(images, generator(1)), views(images, generator(2)))
    assert torch.equal(views.still(images), images.float() / 255)
    moved = views(images, generator(1))
    assert moved.dtype == torch.float32
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1


def test_rows_stay_in_their_places_whatever_the_cache_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are sorted by what happens to them and worked on in parts; nobody sees it."""
    natural = default_views(image_set(torch.zeros(1, 3, 12, 12).byte(), 0.5, 0.25))
    pictures = torch.randint(0, 256, (70, 3, 12, 12), dtype=torch.uint8, generator=generator(8))
    at_once = natural(pictures, generator(1))
    for points in (1, 5000):
        monkeypatch.setattr("neurossl.stimuli.views.augmentation._POINTS", points)
        assert torch.allclose(natural(pictures, generator(1)), at_once, atol=1e-5)
    colours = torch.rand(70, 3, 1, 1, generator=generator(9)).expand(70, 3, 12, 12)
    unchanged = Views(12, crop_scale=(0.2, 1.0), flip=0.5, brightness=0.5, hue=0.3, jitter=0.0, blur=0.5)
    assert torch.allclose(unchanged(colours, generator(1)), colours, atol=1e-5)
    assert natural(pictures[:0], generator(1)).shape == (0, 3, 12, 12)


@pytest.mark.parametrize("natural", [True, False])
def test_several_views_at_once_are_those_of_several_calls(natural: bool, digits: ImageSet) -> None:
    pixels = (
        torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8, generator=generator(8)) if natural else digits.train[:40]
    )
    views = default_views(image_set(pixels, 0.5, 0.25)) if natural else default_views(digits)
    once = generator(1)
    assert torch.equal(views(pixels, generator(1), times=3), torch.cat([views(pixels, once) for _ in range(3)]))


def test_networks_can_learn_from_views() -> None:
    """Views are ordinary tensors: autograd may keep them for its backward pass."""
    weight = torch.ones(3, 3, 5, 5, requires_grad=True)
    shown = default_views(image_set(torch.zeros(1, 3, 12, 12).byte(), 0.5, 0.25))(torch.rand(4, 3, 12, 12), generator())
    torch.nn.functional.conv2d(shown, weight).square().sum().backward()
    assert weight.grad is not None
    assert not shown.is_inference()


def test_views_without_parameters_are_the_images(digits: ImageSet) -> None:
    images = digits.train[:5]
    assert torch.equal(Views(16)(images, generator()), images.float() / 255)
    assert Views(8)(images, generator()).shape == (5, 1, 8, 8)


def test_rotation_and_flip_agree_with_torchvision() -> None:
    image = torch.rand(1, 1, 33, 33, generator=generator(5))
    flipped = Views(33, flip=1.0)(image, generator())
    assert torch.allclose(flipped, image.flip(3), atol=1e-5)
    turned = Views(33, rotation=180.0)(image.repeat(2000, 1, 1, 1), generator())
    # All angles from -180 to 180: the mean over views is the mean over torchvision's rotations.
    angles = torch.linspace(-180, 180, 721)[:-1]
    rotations = [v2.functional.rotate(image, float(a), interpolation=v2.InterpolationMode.BILINEAR) for a in angles]
    assert float((turned.mean(0) - torch.stack(rotations).mean(0)).abs().mean()) < 0.01


def places(views: Views, rows: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where views look: the affine map (rows, 2, 2) and its centre (rows, 2), read from an image of coordinates."""
    axis = (torch.arange(65) * 2 + 1) / 65 - 1
    coordinates = torch.stack([axis.repeat(65, 1), axis.repeat(65, 1).T])
    seen = views(coordinates.repeat(rows, 1, 1, 1), generator(3))
    middle = views.size // 2
    centre = seen[:, :, middle, middle]
    step = views.size / 2
    across, down = seen[:, :, middle, middle + 1] - centre, seen[:, :, middle + 1, middle] - centre
    return torch.stack([across, down], 2) * step, centre


def assert_uniform(samples: torch.Tensor, low: float, high: float) -> None:
    """Compare quantiles with those of a uniform distribution: five standard errors of the median."""
    probability = torch.linspace(0.02, 0.98, 25)
    margin = 2.5 * (high - low) / len(samples) ** 0.5
    assert low - 1e-3 * (high - low) <= float(samples.min()) <= float(samples.max()) <= high + 1e-3 * (high - low)
    assert torch.allclose(samples.quantile(probability), low + probability * (high - low), atol=margin, rtol=0)


def test_movements_are_uniform_in_their_ranges() -> None:
    turned, centre = places(Views(33, rotation=25.0))
    assert_uniform(torch.atan2(turned[:, 1, 0], turned[:, 0, 0]).rad2deg(), -25, 25)
    assert torch.allclose(torch.linalg.det(turned), torch.ones(4000), atol=1e-3)
    assert torch.allclose(centre, torch.zeros(4000, 2), atol=1e-3)
    zoomed, _ = places(Views(33, zoom=0.25))
    assert_uniform(1 / zoomed[:, 0, 0], 0.75, 1.25)
    assert torch.allclose(zoomed[:, 0, 0], zoomed[:, 1, 1], atol=1e-3)
    _, centre = places(Views(33, shift=0.2))
    # Coordinates go from -1 to 1: a fifth of the image is 0.4.
    for moved in centre.T:
        assert_uniform(moved, -0.4, 0.4)
    mirrored, _ = places(Views(33, flip=0.3))
    assert float((mirrored[:, 0, 0] < 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert bool((mirrored[:, 1, 1] > 0).all())


def test_a_moved_view_stands_the_right_way_up() -> None:
    """All movements together are the movements one after the other: nothing is sheared or stretched."""
    moved, _ = places(Views(33, rotation=25.0, zoom=0.25, shift=0.1))
    product = moved.transpose(1, 2) @ moved
    assert torch.allclose(product[:, 0, 1], torch.zeros(4000), atol=2e-3)
    assert torch.allclose(product[:, 0, 0], product[:, 1, 1], atol=2e-3)
    assert bool((torch.linalg.det(moved) > 0).all())


def test_colours_are_drawn_from_their_ranges() -> None:
    def seen(colour: tuple[float, float, float], **options: float) -> torch.Tensor:
        flat = torch.tensor(colour).view(1, 3, 1, 1).repeat(4000, 1, 4, 4)
        return Views(4, **{"jitter": 1.0, **options})(flat, generator(6))[:, :, 0, 0]  # type: ignore[arg-type]

    assert_uniform(seen((0.5, 0.5, 0.5), brightness=0.8)[:, 0] / 0.5, 0.2, 1.8)
    red, green, blue = seen((0.6, 0.4, 0.4), hue=0.2).unbind(1)
    hue = torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue) / (2 * torch.pi)
    assert float(hue.min()) < -0.19
    assert float(hue.max()) > 0.19
    assert float(hue.abs().max()) <= 0.205
    assert abs(float(hue.mean())) < 0.01
    strong = seen((0.6, 0.4, 0.5), saturation=0.5)
    assert_uniform((strong[:, 0] - strong[:, 1]) / 0.2, 0.5, 1.5)
    changed = (seen((0.5, 0.5, 0.5), brightness=0.8, jitter=0.3) != 0.5).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.03)
    grey = seen((0.6, 0.4, 0.5), grayscale=0.2, jitter=0.0)
    assert float((grey[:, 0] == grey[:, 1]).float().mean()) == pytest.approx(0.2, abs=0.03)


def test_blur_is_torchvisions_with_a_width_per_row() -> None:
    point = torch.zeros(4000, 1, 9, 9)
    point[:, :, 4, 4] = 1
    seen = Views(9, blur=0.5, blur_kernel=5)(point, generator(7))
    blurred = seen[(seen != point).flatten(1).any(1)]
    # A blur narrower than 0.2 pixels leaves a point of float32 as it is.
    assert len(blurred) / 4000 == pytest.approx(0.5 * 1.85 / 1.9, abs=0.04)
    sigma = (-0.5 / (blurred[:, 0, 4, 5] / blurred[:, 0, 4, 4]).log()).sqrt()
    assert_uniform(sigma[sigma > 0.4], 0.4, 2.0)
    for row in range(5):
        theirs = v2.functional.gaussian_blur(point[:1], [5, 5], [float(sigma[row])] * 2)
        assert torch.allclose(blurred[row], theirs[0], atol=1e-5)


def test_default_views_move_handwriting_and_crop_nature(digits: ImageSet) -> None:
    hand = default_views(digits)
    assert hand.rotation > 0
    assert (hand.flip, hand.crop_scale, hand.jitter, hand.mean, hand.std) == (0, (1, 1), 0, (0,), (1,))
    colour = default_views(image_set(torch.zeros(1, 3, 32, 32).byte(), 0.5, 0.25))
    assert (colour.rotation, colour.flip, colour.crop_scale, colour.blur_kernel) == (0, 0.5, (0.25, 1), 3)
    assert default_views(image_set(torch.zeros(1, 3, 96, 96).byte(), 0.5, 0.25)).crop_scale == (0.08, 1)
    assert default_views(image_set(torch.zeros(1, 3, 96, 96).byte(), 0.5, 0.25)).blur_kernel == 9
    # Nature in grey is still nature: cropped, flipped and normalised; only what changes colour falls away.
    pixels = torch.randint(0, 256, (200, 1, 32, 32), dtype=torch.uint8, generator=generator(1))
    grey = default_views(image_set(pixels, 0.5, 0.25))
    assert (grey.rotation, grey.crop_scale, grey.flip, grey.brightness) == (0, (0.25, 1), 0.5, 0.8)
    assert (grey.saturation, grey.hue, grey.grayscale) == (0, 0, 0)
    assert (grey.mean, grey.std) == ((0.5,), (0.25,))
    shown = grey(pixels, generator())
    assert shown.shape == (200, 1, 32, 32)
    assert -2 <= float(shown.min()) < -1.5
    assert 1.5 < float(shown.max()) <= 2 + 1e-5


def test_views_are_checked() -> None:
    for options, message in (
        ({"flip": 2.0}, "probability"),
        ({"zoom": 1.0}, "zoom < 1"),
        ({"crop_scale": (0.5, 0.2)}, "0 < low <= high"),
        ({"blur_kernel": 4}, "odd"),
        ({"rotation": -1.0}, ">= 0"),
        ({"std": (0.0,)}, "> 0"),
        ({"crop_scale": (0.5,)}, "0 < low <= high"),
        ({"blur": 0.5, "blur_kernel": 17}, "at most 15 pixels, got 17"),
        ({"rotation": float("nan")}, ">= 0"),
    ):
        checked: dict[str, Any] = options
        with pytest.raises(OptionError, match=message):
            Views(8, **checked)
    assert Views(8, blur=1.0, blur_kernel=15)(torch.rand(2, 3, 8, 8), generator()).shape == (2, 3, 8, 8)
    with pytest.raises(StimulusError, match="3 means for images of 1 channels"):
        Views(8, mean=(0.0,) * 3, std=(1.0,) * 3)(torch.rand(2, 1, 8, 8), generator())
    with pytest.raises(OptionError, match="whole number >= 1, got 0"):
        Views(0)
