"""How a run that is gone on with has stored what it holds: what is declared again must equal it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.contents import outline_segment
from analysis.netcdf import dataset_of
from analysis.outline import SCALARS, Stack, StackedVariable, read_coordinates, scalars_of
from analysis.records import Segment
from analysis.series import Series
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
            for group, stack in outline_segment(run, segment).layout.stacks.items():
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
            series.sizes.update(zip(variable.dims, variable.shape, strict=True))

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
        for group, stack in outline.layout.stacks.items():
            if outline.moments[group].events[-1] == event:
                name = str(stack.attributes.get("pathway", stack.attributes.get("name")))
                found |= {(group.split("/")[0], name, variable) for variable in stack.variables}
        scalars = outline.moments[SCALARS].events
        if scalars.size and scalars[-1] == event:
            last = slice(scalars.size - 1, scalars.size)
            with dataset_of(run / segment.file) as dataset:
                for kind, table in outline.layout.tables.items():
                    for variable in table.variables:
                        there = ~np.isnan(scalars_of(dataset, kind, variable, last)[0])
                        found |= {
                            (kind, label, variable) for label, is_there in zip(table.labels, there, strict=True) if is_there
                        }
    return found


def _stored(variable: StackedVariable) -> tuple[tuple[str, ...], str, str]:
    return variable.dims, str(variable.attributes["units"]), str(variable.attributes["long_name"])
