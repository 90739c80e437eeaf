"""When something was recorded, and how it is told in a line of the index: a few numbers where the moments are regular.

Event numbers, biological times and observers that grow by the same step are stored as first value and step; times that are
one multiple of the event as that multiple. Anything else is packed: second differences of the 64 bits, byte by byte,
deflated. Each way gives back every bit.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COLUMNS = {"event": np.dtype(np.int64), "time": np.dtype(np.float64), "observers_seen": np.dtype(np.int64)}
"""What is known of every moment, with its number type."""


@dataclass(frozen=True)
class Moments:
    """When something was recorded: event numbers, biological times in s, observers seen; each (moments,)."""

    events: np.ndarray
    times: np.ndarray
    observers_seen: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Moments]) -> Moments:
        """Return the moments of consecutive segments as one; an event on either side of a seam counts once."""
        events = np.concatenate([np.empty(0, np.int64), *(part.events for part in parts)])
        times = np.concatenate([np.empty(0), *(part.times for part in parts)])
        observers_seen = np.concatenate([np.empty(0, np.int64), *(part.observers_seen for part in parts)])
        return cls(events, times, observers_seen).without_seams()

    def without_seams(self) -> Moments:
        """Return the moments with an event that comes twice in a row counted once."""
        first = np.diff(self.events, prepend=-1) != 0
        if first.all():
            return self
        return Moments(self.events[first], self.times[first], self.observers_seen[first])

    def same_as(self, other: Moments) -> bool:
        """Return whether every bit is the same."""
        return all(np.array_equal(_bits(a), _bits(b)) for a, b in zip(self.columns(), other.columns(), strict=True))

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return events, times, observers seen."""
        return self.events, self.times, self.observers_seen

    def record(self) -> dict[str, Any]:
        """Return them as JSON, as `told` reads them."""
        events = np.asarray(self.events, np.int64)
        with np.errstate(over="ignore", invalid="ignore"):
            return {
                "count": int(events.size),
                "event": _regular(events) or _packed(events),
                "time": _multiple(self.times, events) or _regular(self.times) or _packed(self.times),
                "observers_seen": _regular(self.observers_seen) or _packed(self.observers_seen),
            }


def told(records: Sequence[dict[str, Any]]) -> Moments:
    """Return the moments of consecutive segments as their lines in the index tell them, seams included.

    Raises
    ------
    ValueError
        If they cannot be read.
    """
    counts = np.array([record["count"] for record in records], np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        events = _column("event", records, counts, None)
        times = _column("time", records, counts, events)
        seen = _column("observers_seen", records, counts, None)
    return Moments(events, times, seen)


def fault(record: Any, most: int) -> str | None:
    """Say what is wrong with a record of moments as JSON gives it; it may tell at most ``most`` of them."""
    if not isinstance(record, dict) or not all(name in record for name in ("groups", "count", *COLUMNS)):
        return "an axis lacks a member"
    if not isinstance(record["groups"], list) or not all(isinstance(group, str) for group in record["groups"]):
        return "an axis does not say whose it is"
    count = record["count"]
    if type(count) is not int or not 0 <= count <= most:
        return f"an axis has {str(count)[:30]} moments, expected at most {most}"
    for name in COLUMNS:
        value = record[name]
        kinds = (int, float) if name == "time" else (int,)
        short = isinstance(value, list) and len(value) in (1, 2) and all(type(x) in kinds for x in value)
        if not isinstance(value, str) and not (short and all(isinstance(x, float) or abs(x) < 2**63 for x in value)):
            return f"the {name}s of an axis cannot be read"
        if short and len(value) == 1 and name != "time":
            return f"the {name}s of an axis cannot be read"
    return None


def _column(name: str, records: Sequence[dict[str, Any]], counts: np.ndarray, events: np.ndarray | None) -> np.ndarray:
    """Return one column of all records; those that are regular at once."""
    dtype = COLUMNS[name]
    given = [record[name] for record in records]
    if all(type(value) is list and len(value) == 2 for value in given):
        first, step = np.array(given, dtype).reshape(-1, 2).T
        place = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(first, counts) + place.astype(dtype) * np.repeat(step, counts)
    if events is not None and all(type(value) is list and len(value) == 1 for value in given):
        return events.astype(dtype) * np.repeat(np.array(given, dtype)[:, 0], counts)
    parts: list[np.ndarray] = [np.empty(0, dtype)]
    stops = np.cumsum(counts)
    for value, count, stop in zip(given, counts.tolist(), stops.tolist(), strict=True):
        if isinstance(value, str):
            parts.append(_unpacked(value, count, dtype))
        elif len(value) == 2:
            first, step = np.array(value, dtype)
            parts.append(first + np.arange(count).astype(dtype) * step)
        elif events is not None:
            parts.append(events[stop - count : stop].astype(dtype) * dtype.type(value[0]))
    return np.concatenate(parts)


def _regular(values: np.ndarray) -> list[Any] | None:
    """Return first value and step if they give back every bit."""
    if not values.size:
        return [0, 0]
    first, step = values[0], values[1] - values[0] if values.size > 1 else values.dtype.type(0)
    told = first + np.arange(values.size).astype(values.dtype) * step
    return [first.item(), step.item()] if np.array_equal(_bits(told), _bits(values)) else None


def _multiple(values: np.ndarray, events: np.ndarray) -> list[Any] | None:
    """Return the factor of the events that gives back every bit, if there is one."""
    if not values.size or not events[-1]:
        return None
    factor = values[-1] / events[-1]
    told = events.astype(values.dtype) * factor
    return [factor.item()] if np.array_equal(_bits(told), _bits(values)) else None


def _packed(values: np.ndarray) -> str:
    bits = _bits(values)
    twice = np.diff(np.diff(bits, prepend=bits.dtype.type(0)), prepend=bits.dtype.type(0))
    planes = np.ascontiguousarray(twice.astype("<u8").view(np.uint8).reshape(-1, 8).T)
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()


def _unpacked(text: str, count: int, dtype: np.dtype) -> np.ndarray:
    inflating = zlib.decompressobj()
    try:
        raw = inflating.decompress(base64.b64decode(text.encode(), validate=True), 8 * count + 1)
    except (zlib.error, binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"its moments cannot be read ({error})") from None
    if len(raw) != 8 * count or not inflating.eof:
        raise ValueError(f"its moments are not {count}")
    twice = np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(8, -1).T).view("<u8").reshape(-1).astype(np.uint64)
    return np.cumsum(np.cumsum(twice, dtype=np.uint64), dtype=np.uint64).view(dtype)


def _bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).view(np.uint64)
