"""What a simulation runs on: anything that yields moments, how it is described, and gone on with where it was left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sized
from itertools import islice
from typing import Any

from torch import Tensor

from neurossl.errors import OptionError
from neurossl.events import Event, Moment


def stream_of(stream: Any) -> Iterable[Moment | Event]:
    """Return a stream; a moment or an event alone is a stream of one.

    Raises
    ------
    OptionError
        If it yields nothing.
    """
    if isinstance(stream, Moment | Event):
        return [stream]
    if isinstance(stream, Tensor) or not isinstance(stream, Iterable):
        raise OptionError(
            f"run: expected a stream of moments such as ViewPairs(images.train, ...), got {type(stream).__name__}"
        )
    return stream


def moments_from(stream: Iterable[Moment | Event], first: int) -> Iterator[Moment | Event]:
    """Yield the moments of a stream from one on; those before are not made where the stream can do without."""
    make = getattr(stream, "moment", None)
    if first and callable(make) and isinstance(stream, Sized):
        return (make(number) for number in range(first, len(stream)))
    return islice(iter(stream), first, None)


def as_moment(item: Any) -> Moment:
    """Return what a stream yields as a moment; a bare event is a moment of its own.

    Raises
    ------
    OptionError
        If it is neither.
    """
    if not isinstance(item, Moment | Event):
        raise OptionError(
            f"a stream yields moments of events, got {type(item).__name__}: use ViewPairs(...) or another stream, or "
            "stream_of_batches(loader) for batches of images and labels"
        )
    return item if isinstance(item, Moment) else Moment(item)


def described_stream(stream: Any) -> dict[str, Any]:
    """Return what tells a stream from another, whatever its length; {} where it does not describe itself."""
    describe = getattr(stream, "describe", None)
    found = describe() if callable(describe) else {}
    if not isinstance(found, dict):
        return {}
    options = found.get("options", {})
    return {**found, "options": {key: value for key, value in options.items() if key != "moments"}}


def in_words(stream: Any) -> str:
    """Return what a stored run says of a stream: its repr, or the kind of one that has none of its own, with its name."""
    if stream is None or (type(stream).__repr__ is not object.__repr__ and not isinstance(stream, Iterator | list | tuple)):
        return repr(stream)
    name = getattr(stream, "__qualname__", "")
    what = f"{type(stream).__name__} {name}".strip()
    return f"{what} of {len(stream)} moments" if isinstance(stream, Sized) else what


def check_goes_on(was: Mapping[str, Any], stream: Iterable[Moment | Event], done: int) -> None:
    """Refuse to go on with another stream than the one that a checkpoint was taken in.

    Parameters
    ----------
    was : mapping
        As `described_stream` gave it.
    stream : iterable of Moment or Event
    done : int
        Moments of the stream that have been learned from.

    Raises
    ------
    OptionError
        If the stream is described otherwise, or shorter than what has been learned from it.
    """
    now = described_stream(stream)
    different = [key for key in was if was[key] != now.get(key)] if now else []
    if different:
        key = different[0]
        raise OptionError(f"run: the checkpoint was taken in a stream with {key} = {was[key]!r}, not {now.get(key)!r}")
    if isinstance(stream, Sized) and len(stream) < done:
        raise OptionError(f"run: {done} moments of the stream have been learned from, it has {len(stream)}")
