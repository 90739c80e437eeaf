"""The views that suit a set of images."""

from neurossl.stimuli.datasets.images import ImageSet
from neurossl.stimuli.views.augmentation import Views


def default_views(images: ImageSet) -> Views:
    """Return views that suit an image set.

    Handwriting (one channel, mean 0) moves (rotation up to 25 degrees, shift up to a tenth of the image, zoom up to 25 %)
    and keeps pixels in [0, 1], so that the background is silent. Natural images get SimCLR's crops, flips, colours and blur
    with the parameters of arXiv 2601.21683, normalised per channel; without colour, what changes colour falls away.
    """
    channels, height, width = images.shape
    coloured = channels == 3
    if channels == 1 and not any(images.mean):
        return Views((height, width), rotation=25, shift=0.1, zoom=0.25)
    size = max(height, width)
    kernel = max(3, int(0.1 * size))
    return Views(
        (height, width),
        crop_scale=(0.25, 1.0) if size <= 32 else (0.08, 1.0),
        flip=0.5,
        brightness=0.8,
        contrast=0.8,
        saturation=0.8 if coloured else 0.0,
        hue=0.2 if coloured else 0.0,
        jitter=0.8,
        grayscale=0.2 if coloured else 0.0,
        blur=0.5,
        # Odd, and reflected at the border at most once.
        blur_kernel=min(kernel + 1 - kernel % 2, 2 * min(height, width) - 1),
        mean=images.mean,
        std=images.std,
    )
