"""Decoding of one picture file.

Every picture becomes RGB or grey, of 8 bits and of one size: it is turned as its EXIF tag says, laid on black where it is
transparent, resized until it covers the size, and its centre is cropped. Of several in a file (GIF, TIFF, WebP) the first
counts.

Files come from anywhere. Only `FORMATS` are opened, whatever a name ends in: among the others that Pillow knows, there are
some that start a program. A size that no photograph has is refused before memory is taken for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from neurossl.errors import NeurosslError, StimulusError
from neurossl.stimuli.datasets.access import open_regular, shown

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What is opened, the common ones first."""
ENDINGS = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".dib",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
    ]
)
"""Names of pictures end in one of these, in small or capital letters."""
MOST_PIXELS, MOST_PER_SIDE = 2**26, 2**15
"""Largest picture: 67 million pixels, neither side beyond 32,768."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoding(NamedTuple):
    """What becomes of a picture: its height and width in pixels, and whether its colours are reduced to luminance."""

    height: int
    width: int
    grey: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 1 if self.grey else 3, self.height, self.width


def read_picture(file: Path, decoding: Decoding) -> np.ndarray:
    """Return a picture as uint8, (channels, height, width).

    Raises
    ------
    StimulusError
        If it cannot be read; names the file.
    """
    with _opened(file) as image:
        deep = image.mode == "F" or image.mode.startswith("I")
        if not deep:
            # A JPEG several times too large is decoded at a half, a quarter or an eighth of its size.
            image.draft(None, (max(decoding.height, decoding.width),) * 2)
        picture = _upright(image)
        picture = _grey_on_black(picture) if deep else _on_black(picture)
        picture = picture.convert("RGB")
        pixels = _cover(picture.convert("L") if decoding.grey else picture, decoding.height, decoding.width)
        return pixels[None] if decoding.grey else pixels.transpose(2, 0, 1)


def picture_size(file: Path) -> tuple[int, int]:
    """Return height and width of a picture as stored, before it is turned, from the head of its file.

    Raises
    ------
    StimulusError
        If it cannot be read; names the file.
    """
    with _opened(file) as image:
        return image.height, image.width


def read_pictures(files: Sequence[Path], decoding: Decoding) -> list[np.ndarray]:
    """Return some pictures."""
    return [read_picture(file, decoding) for file in files]


def picture_sizes(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return heights and widths of some pictures."""
    return [picture_size(file) for file in files]


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open a picture; turn the reasons why it cannot be read into one line with its path."""
    try:
        with open_regular(file) as content, Image.open(content, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS or max(image.size) > MOST_PER_SIDE:
                size = f"{image.width} x {image.height} pixels"
                raise ValueError(f"{size}, expected at most {MOST_PIXELS} and {MOST_PER_SIDE} per side")
            yield image
    except NeurosslError:
        raise
    # Pillow's decoders raise whatever they stumble over in a damaged file.
    except Exception as reason:
        message = str(reason).split("\n")[0] or type(reason).__name__
        if isinstance(reason, UnidentifiedImageError):
            message = f"none of {', '.join(FORMATS)}"
        raise StimulusError(
            f"image {shown(file)}: cannot be read ({shown(message)}); expected an image such as PNG or JPEG"
        ) from None


def _upright(image: Image.Image) -> Image.Image:
    """Return a picture turned and mirrored as its EXIF tag says."""
    # Before it is looked at: the reader of TIFF turns pictures by itself, and takes the tag away.
    image.load()
    turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image if turn is None else image.transpose(turn)


def _on_black(picture: Image.Image) -> Image.Image:
    """Return a picture without transparency: where nothing is, no light comes from, whatever colour is stored there."""
    if not picture.has_transparency_data:
        return picture
    layer = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)


def _grey_on_black(picture: Image.Image) -> Image.Image:
    """Return a 16-bit grey picture as an 8-bit one; the value that it says is transparent becomes black."""
    values = np.asarray(picture)
    clear = picture.info.get("transparency")
    return Image.fromarray(_eight_bits(np.where(values == clear, 0, values) if isinstance(clear, int) else values))


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Return 16-bit grey values as 8-bit ones; PIL's own conversion would turn everything above 255 white."""
    if not np.issubdtype(grey.dtype, np.integer) or grey.min() < 0 or grey.max() > 65535:
        raise ValueError("neither 8 nor 16 bits per channel")
    return (grey.astype(np.float32) / 257).round().astype(np.uint8)


def _cover(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the centre of a picture that is resized until it covers a size, (height, width) or (height, width, 3)."""
    if picture.size == (width, height):
        return np.asarray(picture)
    scale = max(height / picture.height, width / picture.width)
    wide, high = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    if wide * high > MOST_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} pixels are too narrow to cover {width} x {height}")
    left, top = (wide - width) // 2, (high - height) // 2
    resized = picture.resize((wide, high), Image.Resampling.BILINEAR)
    return np.asarray(resized.crop((left, top, left + width, top + height)))
