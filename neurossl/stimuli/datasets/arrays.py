"""Images and labels in arrays of numpy or torch, checked and brought into one form: channels first, labels of int64."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurossl.errors import StimulusError

_PART = 4096
_ROUNDING = 1e-6


def pixels_of(images: Any, what: str) -> Tensor:
    """Return images as a tensor, (images, channels, height, width).

    Parameters
    ----------
    images : array or Tensor of uint8, or floating in [0, 1]
        (images, height, width): of one channel. (images, channels, height, width), or (images, height, width, channels)
        where the last axis is 1 or 3 and the second is neither. Memory is shared where nothing has to change.
    what : str
        Name of the images, for the error message.

    Returns
    -------
    Tensor of uint8 or float32

    Raises
    ------
    StimulusError
        If the shape or the type is another, or a value is none from 0 to 1; names the first such image.
    """
    pixels = tensor_of(images, what)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3):
        if pixels.shape[3] in (1, 3):
            pixels = pixels.permute(0, 3, 1, 2).contiguous()
        elif pixels.shape[3] in (2, 4) and pixels.shape[1] > 4:
            raise StimulusError(
                f"{what}: {pixels.shape[3]} channels in the last axis look like transparency: give 1 or 3 channels, or put "
                f"channels second"
            )
    return check_pixels(pixels, what)


def check_pixels(pixels: Tensor, what: str) -> Tensor:
    """Return images, (images, channels, height, width), of uint8 or float32 in [0, 1].

    Raises
    ------
    StimulusError
        If the shape or the type is another, or a value is none from 0 to 1; names the first such image.
    """
    if pixels.ndim != 4 or 0 in pixels.shape[1:]:
        raise StimulusError(f"{what}: expected shape (images, channels, height, width), got {tuple(pixels.shape)}")
    if pixels.dtype == torch.uint8:
        return pixels
    if not pixels.is_floating_point():
        kind = str(pixels.dtype).removeprefix("torch.")
        raise StimulusError(f"{what}: expected uint8, or floats in [0, 1], got {kind}: convert them to uint8")
    pixels = pixels.to(torch.float32)
    if pixels.device.type == "meta":
        return pixels
    first = 0
    for part in pixels.split(_PART):
        flat = part.flatten(1)
        fits = (flat >= -_ROUNDING).all(1) & (flat <= 1 + _ROUNDING).all(1)
        if not bool(fits.all()):
            number = int((~fits).nonzero()[0])
            image = flat[number]
            if not bool(image.isfinite().all()):
                raise StimulusError(f"{what}: image {first + number} has NaN or infinite pixels")
            raise StimulusError(
                f"{what}: expected uint8, or floats in [0, 1], but image {first + number} has pixels from "
                f"{float(image.min()):g} to {float(image.max()):g}: divide 0..255 by 255, leave normalisation to the views"
            )
        first += len(part)
    return pixels


def tensor_of(array: Any, what: str) -> Tensor:
    """Return an array of numbers as a tensor, which shares its memory where torch can.

    Raises
    ------
    StimulusError
        If it is no array of numbers.
    """
    if isinstance(array, Tensor):
        if array.layout != torch.strided:
            raise StimulusError(f"{what}: expected a dense tensor, got {array.layout}")
        return array.detach()
    if isinstance(array, np.ma.MaskedArray):
        raise StimulusError(f"{what}: a masked array: fill it or leave masked entries out, for example array.filled(0)")
    try:
        found = np.asarray(array)
    except ValueError:
        raise StimulusError(f"{what}: expected an array, of one shape for all") from None
    if found.dtype.kind not in "buif":
        raise StimulusError(f"{what}: expected an array of numbers, got {found.dtype} in {type(array).__name__}")
    native = found.astype(found.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()
    try:
        return torch.from_numpy(native)
    except TypeError:
        return torch.from_numpy(native.astype(np.float64 if native.dtype.kind == "f" else np.int64))


def labels_of(labels: Any, count: int, what: str) -> Tensor:
    """Return labels as int64 on the CPU, (images,).

    Parameters
    ----------
    labels : array, Tensor or sequence of whole numbers of any type, (images,)
    count : int
        How many images there are.
    what : str
        Name of the labels, for the error message.

    Raises
    ------
    StimulusError
        If there is not one per image, or they are no integers >= 0.
    """
    if _named(labels) is not None:
        raise StimulusError(
            f"{what}: expected numbers of classes, got names: ImageSet.from_arrays takes names and numbers the classes"
        )
    found = tensor_of(labels, what).cpu()
    if found.ndim != 1 or len(found) != count:
        raise StimulusError(f"{what}: expected one label per image ({count}), got {_counted(found)}")
    if found.is_complex() or found.dtype == torch.bool:
        raise StimulusError(f"{what}: expected integers from 0, got {str(found.dtype).removeprefix('torch.')}")
    numbers = found.to(torch.int64)
    odd = (numbers < 0) | ((numbers != found) if found.is_floating_point() else False)
    if bool(odd.any()):
        first = int(odd.nonzero()[0])
        raise StimulusError(
            f"{what}: expected integers from 0, got {found[first].item()} for image {first}: leave out what has no label"
        )
    return numbers


def class_numbers(
    labels: Any, count: int, what: str, classes: Sequence[str] | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    """Return labels as numbers, and the names of all classes.

    Parameters
    ----------
    labels : array, Tensor or sequence, (images,)
        Integers, or the names of classes.
    count, what
        As for `labels_of`.
    classes : sequence of str, optional
        In the order of their numbers. By default the names in alphabetical order; of integers, all up to the largest.

    Raises
    ------
    StimulusError
        If the labels do not fit the images or the classes.
    """
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Sequence | np.ndarray)):
        raise StimulusError(f"{what}: classes are a list of names, got {classes!r}")
    given = None if classes is None else tuple(str(name) for name in classes)
    odd = next((name for name in given or () if not name.isprintable()), None)
    if odd is not None:
        raise StimulusError(f"{what}: {odd!r} is no name of a class: expected printable text")
    if given is not None and len(set(given)) < len(given):
        raise StimulusError(f"{what}: the names of classes must differ, got {', '.join(given[:10])}")
    names = _named(labels)
    if names is None:
        numbers = labels_of(labels, count, what)
        most = int(numbers.max()) + 1 if count else 0
        if given is None and most > max(count, 2):
            raise StimulusError(
                f"{what}: up to {most - 1} in {count} images: expected classes numbered from 0, or give classes"
            )
        if given is not None and most > len(given):
            raise StimulusError(f"{what}: expected 0 to {len(given) - 1}, one per class, got {most - 1}")
        return numbers, given if given is not None else tuple(str(number) for number in range(most))
    if len(names) != count:
        raise StimulusError(f"{what}: expected one label per image ({count}), got {len(names)}")
    found = given if given is not None else tuple(sorted(set(names)))
    number = {name: place for place, name in enumerate(found)}
    odd = next((name for name in found if not name.isprintable()), None)
    if odd is not None:
        raise StimulusError(f"{what}: {odd!r} is no name of a class: expected printable text")
    unknown = next((name for name in names if name not in number), None)
    if unknown is not None:
        raise StimulusError(f"{what}: there is no class {unknown!r}, expected one of {', '.join(found[:10])}")
    return torch.tensor([number[name] for name in names], dtype=torch.int64), found


def _named(labels: Any) -> list[str] | None:
    """Return labels that are names as a list, or None if they are no names."""
    if isinstance(labels, Tensor):
        return None
    try:
        found = np.asarray(labels)
    except ValueError:
        return None
    if found.ndim == 1 and len(found) and (found.dtype.kind in "US" or all(isinstance(name, str) for name in found)):
        return [name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name) for name in found.tolist()]
    return None


def _counted(found: Tensor) -> str:
    return f"{len(found)}" if found.ndim == 1 else f"shape {tuple(found.shape)}"
