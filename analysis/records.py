"""What is in the JSON files of a run, member by member: the one schema that every writer and reader goes through.

All of them may have further members, which are kept; what is named here has this type wherever it is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

State = Literal["running", "finished", "failed", "interrupted"]


class PopulationRecord(TypedDict):
    """A population of a network."""

    name: str
    shape: NotRequired[int | list[int]]
    transfer: NotRequired[str | None]
    input: NotRequired[bool]


class PathwayRecord(TypedDict):
    """A pathway of a network."""

    name: str
    kind: NotRequired[str]
    shape: NotRequired[int | list[int]]
    plastic: NotRequired[bool]
    synapses: NotRequired[int]


class NetworkRecord(TypedDict, total=False):
    """What ``network.describe()`` returns."""

    name: str
    populations: list[PopulationRecord]
    pathways: list[PathwayRecord]


class InterventionRecord(TypedDict, total=False):
    """What an experimenter did to a running simulation, and when."""

    moment: int
    time: float
    what: str
    pathway: str | None
    population: str | None


class ProcessRecord(TypedDict):
    """The process that writes a run."""

    host: str
    pid: int
    started: str


class Configuration(TypedDict, total=False):
    """What a run is: the members of a manifest that whoever runs it says."""

    protocol: str | None
    rule: str | None
    label: str | None
    objective: str | None
    transport: str | None
    needs: list[str] | None
    reference: str | None
    reference_objective: str | None
    reference_at: str | None
    reference_fixed: list[str] | None
    reference_left_out: str | None
    own_reference: str | None
    own_reference_objective: str | None
    twin_of: str | None
    by_construction: list[str] | None
    seed: int | None
    seeds: int | list[int] | None
    dataset: str | None
    network: NetworkRecord | None
    images: str | None
    views: str | None
    stream: str | None
    synapses: dict[str, Any] | None
    interventions: list[InterventionRecord] | None
    budget: int | None
    observers: int | None
    device: str | None
    dtype: str | None
    command: str | list[str] | None
    seconds: float | None
    measured: dict[str, Any] | None
    fixed_weights: dict[str, str] | None
    versions: dict[str, str] | None
    hardware: dict[str, Any] | None


class Manifest(Configuration, total=False):
    """``RUN/manifest.json``: the configuration, and what the writer adds."""

    schema_version: int
    run_id: str
    state: State
    reason: str | None
    process: ProcessRecord
    last_sign_of_life: str
    started: str
    ended: str
    segments: int
    stored_bytes: int
    expected_bytes: int
    resumed: list[dict[str, Any]]


class VariableRecord(TypedDict):
    """A variable of a group of tensors: axes and shape of one snapshot, number type, attributes."""

    dims: list[str]
    shape: list[int]
    dtype: str
    attributes: dict[str, Any]


class StackRecord(TypedDict):
    """A group of tensors; see `analysis.outline.Stack`."""

    variables: dict[str, VariableRecord]
    attributes: dict[str, Any]
    coordinates: dict[str, list[str]]


class TableRecord(TypedDict):
    """A kind of scalars; see `analysis.outline.Table`."""

    labels: list[str]
    variables: list[str]


class LayoutRecord(TypedDict):
    """What a segment holds but moments and values; see `analysis.outline.Layout`."""

    stacks: dict[str, StackRecord]
    tables: dict[str, TableRecord]


@dataclass(frozen=True)
class Segment:
    """One line of ``RUN/segments.jsonl``: a file of ``RUN/trajectory`` and what it must hold.

    Attributes
    ----------
    run : str or None
        Identifier of its run.
    continues : bool
        Whether it may begin with the event with which the one before ends.
    layout : dict, int or None
        What it holds (see `LayoutRecord`), or the number of the earlier line that says so, from 0; None in lines of earlier
        versions.
    axes : list of dict or None
        Its moments (see `analysis.moments`), each with the ``groups`` whose they are.
    merges : int
        For how many segments, as they were written, it stands.
    was : str or None
        Of one that `neurossl compact` has made: digest of the index up to here, as it was before.
    """

    file: str
    kinds: list[str]
    first_event: int
    last_event: int
    shapes: dict[str, list[int]]
    sha256: str
    bytes: int
    run: str | None = None
    continues: bool = False
    layout: dict[str, Any] | int | None = None
    axes: list[Any] | None = None
    merges: int = 1
    was: str | None = None


class Entry(TypedDict):
    """A run in the index of a comparison."""

    path: str
    rule: NotRequired[str | None]
    label: NotRequired[str | None]
    seed: NotRequired[int | None]
    state: NotRequired[str | None]
    seconds: NotRequired[float | None]


class Index(TypedDict):
    """``OUT/comparison.json``: the runs of a protocol, which lie below its folder."""

    runs: list[Entry]
    schema_version: NotRequired[int]
    protocol: NotRequired[str | None]
    options: NotRequired[dict[str, Any]]


Cell = str | float | bool | None | list[Any] | dict[str, Any]


class ChartRecord(TypedDict):
    """What a chart of results draws; see `analysis.results.Chart`."""

    title: str
    x: str
    y: str
    x_label: str
    y_label: str
    series: NotRequired[str | None]
    panel: NotRequired[str | None]
    stacked: NotRequired[bool]
    data: NotRequired[str]
    where: NotRequired[dict[str, Any]]
    kind: NotRequired[Literal["lines", "points", "bars", "matrix"]]
    log: NotRequired[Literal["", "x", "y", "xy"]]
    levels: NotRequired[dict[str, float]]
    y_range: NotRequired[list[float] | None]
    errors: NotRequired[str]
    order: NotRequired[list[str | float]]
    text: NotRequired[str]


class ResultsRecord(TypedDict):
    """``OUT/results.json``: what a protocol has found; see `analysis.results.Results`."""

    protocol: str
    title: str
    table: list[dict[str, Cell]]
    sentences: NotRequired[list[str]]
    charts: NotRequired[list[ChartRecord]]
    data: NotRequired[dict[str, list[dict[str, Cell]]]]
    columns: NotRequired[list[str] | None]
    headings: NotRequired[dict[str, str]]
    caption: NotRequired[str]
    notes: NotRequired[list[str]]
    curves: NotRequired[bool]
    options: NotRequired[dict[str, Any]]
    command: NotRequired[list[str]]
