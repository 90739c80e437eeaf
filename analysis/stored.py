"""How a run that is gone on with has stored what it holds: what is declared again must equal it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.outline import Stack, StackedVariable, read_coordinates
from analysis.records import Segment
from analysis.series import Series
from analysis.trajectory import outline_segment
from neurossl.errors import TrajectoryError


@dataclass(frozen=True)
class StoredLayout:
    """The stacks of a run, and for each the segment in which it begins."""

    stacks: dict[str, tuple[Segment, Stack]]

    @classmethod
    def read(cls, run: Path, segments: Sequence[Segment]) -> StoredLayout:
        """Return the layout of segments, each found whole.

        Raises
        ------
        TrajectoryError
            If one of them is damaged.
        """
        stacks: dict[str, tuple[Segment, Stack]] = {}
        for segment in segments:
            for group, stack in outline_segment(run, segment).stacks.items():
                stacks.setdefault(group, (segment, stack))
        return cls(stacks)

    def require(self, series: Series, run: Path) -> None:
        """Make sure that a series is declared as it is stored, and let it go on with the sizes and types stored.

        Raises
        ------
        TrajectoryError
            If it differs.
        """
        if series.group not in self.stacks:
            return
        segment, stack = self.stacks[series.group]
        where = f"{series.kind} of {series.name!r}"
        stored = {name: _stored(variable) for name, variable in stack.variables.items()}
        given = {
            name: (variable.dims, series.attributes_of(name)["units"], series.attributes_of(name)["long_name"])
            for name, variable in series.variables.items()
        }
        if stored != given:
            raise TrajectoryError(f"{where} is declared as {given}, but {run} holds {stored}")
        attributes, wanted = stack.attributes, series.group_attributes()
        if attributes.keys() != wanted.keys() or any(not np.array_equal(attributes[k], v) for k, v in wanted.items()):
            raise TrajectoryError(f"{where} is declared with {wanted}, but {run} holds {attributes}")
        coords = read_coordinates(run / segment.file, series.group)
        same = coords.keys() == series.coords.keys() and all(
            coords[key][0] == dims and np.array_equal(coords[key][1], values)
            for key, (dims, values) in series.coords.items()
        )
        if not same:
            raise TrajectoryError(f"{where} is declared with other coordinates (such as chosen synapses) than {run} holds")
        for name, variable in stack.variables.items():
            series.dtypes[name] = variable.dtype
            series.sizes.update(zip(variable.dims[1:], variable.shape[1:], strict=True))

    def forget(self, series: Series) -> None:
        """Let a series whose records are all forgotten have any size and type again."""
        if series.group not in self.stacks:
            series.dtypes.clear()
            series.sizes.clear()
            for dims, values in series.coords.values():
                series.sizes.update(zip(dims, values.shape, strict=True))


def recorded_at(run: Path, segments: Sequence[Segment], event: int) -> set[tuple[str, str, str]]:
    """Return what is stored at the last event, as kind, name and variable."""
    found: set[tuple[str, str, str]] = set()
    for segment in reversed(segments):
        if segment.last_event != event:
            break
        outline = outline_segment(run, segment)
        for group, stack in outline.stacks.items():
            if stack.moments.events[-1] == event:
                name = str(stack.attributes.get("pathway", stack.attributes.get("name")))
                found |= {(group.split("/")[0], name, variable) for variable in stack.variables}
        if outline.moments.events.size and outline.moments.events[-1] == event:
            for kind, table in outline.tables.items():
                for variable, values in table.values.items():
                    there = ~np.isnan(values[-1])
                    found |= {
                        (kind, label, variable) for label, is_there in zip(table.labels, there, strict=True) if is_there
                    }
    return found


def _stored(variable: StackedVariable) -> tuple[tuple[str, ...], str, str]:
    return variable.dims[1:], str(variable.attributes["units"]), str(variable.attributes["long_name"])
