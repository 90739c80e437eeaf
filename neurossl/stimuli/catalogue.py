"""The streams by name; a user's own are registered beside them."""

from collections.abc import Callable
from typing import Any, TypeVar

from neurossl.errors import OptionError
from neurossl.stimuli.pairs import ViewPairs
from neurossl.stimuli.patches import PatchSequence
from neurossl.stimuli.phases import DoubledInput, WakeSleep
from neurossl.stimuli.sequences import FixationSequence

StreamMaker = TypeVar("StreamMaker", bound=Callable[..., Any])
_STREAMS: dict[str, Callable[..., Any]] = {}


def register_stream(name: str) -> Callable[[StreamMaker], StreamMaker]:
    """Make a stream known by a name: a class, or a function, of images and options.

    Parameters
    ----------
    name : str

    Raises
    ------
    OptionError
        If the name is taken.

    Examples
    --------
    >>> from neurossl.stimuli import ViewPairs
    >>> @register_stream("many-negatives")
    ... def many_negatives(images, **options):
    ...     return ViewPairs(images, negatives=16, sampling="random", **options)
    """

    def keep(make: StreamMaker) -> StreamMaker:
        before = _STREAMS.get(name, make)
        if (before.__module__, before.__qualname__) != (make.__module__, make.__qualname__):
            raise OptionError(f"stream {name!r} exists already: choose another name")
        _STREAMS[name] = make
        return make

    return keep


def stream_names() -> tuple[str, ...]:
    """Return the names of all streams."""
    return tuple(_STREAMS)


def make_stream(name: str, images: Any, *arguments: Any, **options: Any) -> Any:
    """Return a stream by its name.

    Parameters
    ----------
    name : str
        ``view-pairs``, ``wake-sleep``, ``doubled-input``, ``fixation-sequence``,
        ``patch-sequence``, or what `register_stream` has made known.
    images, *arguments, **options
        As for the class of the stream.

    Raises
    ------
    OptionError
        If there is no such stream.
    """
    if name not in _STREAMS:
        raise OptionError(f"stream {name!r} does not exist, expected {', '.join(_STREAMS)}")
    return _STREAMS[name](images, *arguments, **options)


register_stream("view-pairs")(ViewPairs)
register_stream("wake-sleep")(WakeSleep)
register_stream("doubled-input")(DoubledInput)
register_stream("fixation-sequence")(FixationSequence)
register_stream("patch-sequence")(PatchSequence)
