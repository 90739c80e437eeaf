"""What the segments of a run hold together, from the lines of the index alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.index import require_whole
from analysis.moments import Moments, told
from analysis.outline import SCALARS, Layout, Outline, Stack, read_outline, shapes_of
from analysis.records import Segment
from neurossl.errors import TrajectoryError


class Contents:
    """The segments of a run: layout and moments of each, and of all of them together.

    Attributes
    ----------
    run : Path
    segments : sequence of Segment
    layouts : list of Layout
        Of each segment; those laid out alike share one.
    groups : list of str
        Groups of tensors, in the order in which they were first recorded.
    kinds : set of str
        Kinds of scalars.
    """

    def __init__(self, run: Path, segments: Sequence[Segment], layouts: list[Layout]) -> None:
        self.run, self.segments, self.layouts = run, segments, layouts
        alike = list({id(layout): layout for layout in layouts}.values())
        self.groups = list(dict.fromkeys(group for layout in alike for group in layout.stacks))
        self.kinds = {kind for layout in alike for kind in layout.tables}
        self._axes = [{group: axis for axis in segment.axes or () for group in axis["groups"]} for segment in segments]
        self._moments: dict[tuple[int, ...], Moments] = {}

    @classmethod
    def of(cls, run: Path, segments: Sequence[Segment]) -> Contents:
        """Return what segments hold; those whose lines do not tell, of an earlier version, are opened.

        Raises
        ------
        TrajectoryError
            If they do not fit together; names the file.
        """
        known: dict[int, Layout] = {}
        described, layouts = [], []
        for segment in segments:
            if segment.layout is None or segment.axes is None:
                outline = outline_segment(run, segment)
                segment = replace(segment, layout=outline.layout.record(), axes=outline.axes())
                layouts.append(outline.layout)
            else:
                key = id(segment.layout)
                if key not in known:
                    try:
                        known[key] = Layout.of(segment.layout)  # type: ignore[arg-type]
                    except ValueError as fault:
                        raise TrajectoryError(f"the line of {run / segment.file} in the index is damaged: {fault}") from None
                layouts.append(known[key])
            described.append(segment)
        contents = cls(run, described, layouts)
        contents._check()
        return contents

    def moments(self, group: str) -> Moments:
        """Return the moments of a group in all segments; of the scalars those at a seam come twice.

        Raises
        ------
        TrajectoryError
            If they are not in order, or not those that their segments are said to begin and end with.
        """
        numbers = [number for number, axes in enumerate(self._axes) if group in axes]
        records = [self._axes[number][group] for number in numbers]
        key = tuple(map(id, records))
        if key not in self._moments:
            try:
                self._moments[key] = told(records)
            except ValueError as fault:
                raise TrajectoryError(f"{self.run}: of {group or 'the scalars'}, {fault}") from None
            self._check_events(self._moments[key].events, numbers, group)
        return self._moments[key]

    def holding(self, group: str) -> tuple[list[int], np.ndarray]:
        """Return which segments hold a group of tensors, and how many snapshots each.

        Raises
        ------
        TrajectoryError
            If an event is there twice.
        """
        numbers = [number for number, layout in enumerate(self.layouts) if group in layout.stacks]
        counts = np.array([self._axes[number][group]["count"] for number in numbers], np.int64)
        events = self.moments(group).events
        if (again := np.flatnonzero(np.diff(events) <= 0)).size:
            number = numbers[int(np.searchsorted(np.cumsum(counts), again[0] + 1, side="right"))]
            file = self.run / self.segments[number].file
            raise TrajectoryError(f"{file} holds {group} at event {events[again[0] + 1]} once more")
        return numbers, counts

    def rows(self, numbers: Sequence[int], moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Return where the scalars of segments begin and end among all moments."""
        counts = np.array([axes[SCALARS]["count"] if SCALARS in axes else 0 for axes in self._axes], np.int64)
        events = self.moments(SCALARS).events
        first = events[np.minimum(np.cumsum(counts) - counts, max(events.size - 1, 0))] if events.size else counts
        chosen = np.array(list(numbers), int)
        starts = np.searchsorted(moments.events, first[chosen])
        return starts, starts + counts[chosen]

    def _check(self) -> None:
        """Make sure that every group is laid out alike wherever it is, and has its moments."""
        first: dict[str, tuple[Segment, Stack]] = {}
        checked: set[int] = set()
        rows: dict[int, dict[str, int]] = {}
        for segment, layout, axes in zip(self.segments, self.layouts, self._axes, strict=True):
            missing = [group for group in layout.stacks if group not in axes or not axes[group]["count"]]
            missing += [kind for kind in layout.tables if SCALARS not in axes]
            if missing:
                raise TrajectoryError(f"the line of {self.run / segment.file} in the index has no moments of {missing[0]}")
            told = shapes_of(layout, {group: axis["count"] for group, axis in axes.items()})
            for name in told | segment.shapes if told != segment.shapes else ():
                found, wanted = segment.shapes.get(name), told.get(name)
                if found != wanted:
                    group, _, variable = name.rpartition("/")
                    file = self.run / segment.file
                    raise TrajectoryError(f"{file} holds {group} as {variable} of shape {found}, expected {wanted}")
            if id(layout) not in rows:
                rows[id(layout)] = {
                    group: sum(int(np.prod(v.shape, dtype=object)) * v.dtype.itemsize for v in stack.variables.values())
                    for group, stack in layout.stacks.items()
                }
            claimed = sum(size * axes[group]["count"] for group, size in rows[id(layout)].items())
            if claimed > segment.bytes:
                file = self.run / segment.file
                raise TrajectoryError(f"{file} claims to hold {claimed:,} bytes of values, but has only {segment.bytes:,}")
            if id(layout) in checked:
                continue
            checked.add(id(layout))
            for group, stack in layout.stacks.items():
                earlier, expected = first.setdefault(group, (segment, stack))
                if _shapes(stack) != _shapes(expected):
                    raise TrajectoryError(
                        f"{self.run / segment.file} holds {group} as {_shapes(stack)}, expected {_shapes(expected)} "
                        f"as in {earlier.file}"
                    )

    def _check_events(self, events: np.ndarray, numbers: Sequence[int], group: str) -> None:
        counts = np.array([self._axes[number][group]["count"] for number in numbers], np.int64)
        there = counts > 0
        stops = np.cumsum(counts)[there]
        chosen = np.array(list(numbers), int)[there]
        begins = np.array([self.segments[number].first_event for number in chosen], np.int64)
        ends = np.array([self.segments[number].last_event for number in chosen], np.int64)
        wrong = np.flatnonzero((events[stops - counts[there]] < begins) | (events[stops - 1] > ends))
        if not wrong.size:
            back = np.flatnonzero(np.diff(events) < 0) + 1
            wrong = np.searchsorted(stops, back[:1], side="right")
        if wrong.size:
            segment = self.segments[int(chosen[wrong[0]])]
            raise TrajectoryError(f"the line of {self.run / segment.file} in the index tells events that are not its own")


def require_there(run: Path, segments: Sequence[Segment]) -> None:
    """Make sure that every segment is there and has its size; what is in it is looked at before it is read.

    Raises
    ------
    TrajectoryError
        Naming the first that is missing, cut short or longer.
    """
    for segment in segments:
        path = run / segment.file
        try:
            size = os.lstat(path).st_size
        except FileNotFoundError:
            raise TrajectoryError(f"{path} is missing") from None
        except OSError as error:
            raise TrajectoryError(f"{path} cannot be read ({error.strerror})") from None
        if size != segment.bytes:
            raise TrajectoryError(f"{path} has {size} bytes, expected {segment.bytes}: it was cut short or replaced")


def outline_segment(run: Path, segment: Segment) -> Outline:
    """Return the outline of a segment that is whole and is what its line in the index says.

    Raises
    ------
    TrajectoryError
        If it is not; names the file.
    """
    path = run / segment.file
    require_whole(path, segment)
    try:
        outline = read_outline(path)
        first, last = outline.event_range
    except (OSError, RuntimeError, LookupError, ValueError, AttributeError, TypeError) as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from None
    if (first, last) != (segment.first_event, segment.last_event):
        raise TrajectoryError(
            f"{path} holds events {first} to {last}, expected {segment.first_event} to {segment.last_event}: "
            "it was replaced by another segment"
        )
    for name in outline.shapes | segment.shapes:
        found, expected = outline.shapes.get(name), segment.shapes.get(name)
        if found != expected:
            raise TrajectoryError(f"{path} holds {name} of shape {found}, expected {expected}")
    if segment.layout is not None and segment.axes is not None:
        try:
            differing = next((what for what, found, said in _told(outline, segment) if found != said), None)
        except ValueError as fault:
            raise TrajectoryError(f"the line of {path} in the index is damaged: {fault}") from None
        if differing is not None:
            raise TrajectoryError(f"{path} holds other {differing} than its line in the index says")
    return outline


def _told(outline: Outline, segment: Segment) -> Iterator[tuple[str, Any, Any]]:
    """Yield what a segment holds and what its line in the index says that it holds."""
    found, told_in = (json.dumps(layout, sort_keys=True) for layout in (outline.layout.record(), segment.layout))
    yield "variables", found, told_in
    axes = {group: axis for axis in segment.axes or () for group in axis["groups"]}
    counts = {group: axis["count"] for group, axis in axes.items()}
    layout = Layout.of(segment.layout)  # type: ignore[arg-type]
    yield "shapes", segment.shapes, shapes_of(layout, counts)
    for group, moments in outline.moments.items():
        if moments.events.size or group in axes:
            yield f"moments of {group or 'scalars'}", group in axes and told([axes[group]]).same_as(moments), True


def _shapes(stack: Stack) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What must be the same in every segment: type and shape of a snapshot of each variable."""
    return {name: (variable.dtype.name, variable.shape) for name, variable in stack.variables.items()}
