"""What storing and reading a run costs, beside one plain NetCDF file and, where it is installed, zarr.

Each function makes what it measures in a temporary folder, reads or writes it in alternation with the others, and returns
plain numbers; it is called in a process of its own. Files of many gigabytes are sparse: their sizes are true, their bytes
are holes, which is enough for opening, since opening reads none of them.

``python -m protocols.speed.store_cases`` prints all of them.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

import analysis
from analysis.index import Layouts, index_line, segment_file
from analysis.moments import Moments
from analysis.outline import SCALARS, Layout, Stack, StackedVariable, Table, shapes_of
from analysis.records import Segment
from analysis.schema import group_of, variable_attributes
from analysis.sealed import seal
from neurossl.store import Variable
from neurossl.surroundings import imported

PATHWAY = "V1->V2"
GROUP = f"weights/{PATHWAY}"


@dataclass(frozen=True)
class Sizes:
    """How much is stored in each case."""

    sparse_bytes: int = 50 * 10**9
    sparse_segments: int = 1500
    pathways: int = 4
    events: int = 2_000_000
    runs: int = 100
    snapshots: int = 5000
    side: int = 100
    singles: int = 200
    written: int = 400


TINY = Sizes(10**8, 20, 2, 3000, 3, 60, 8, 5, 10)


def opening_large(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return the seconds of the processor that it takes to open a run of many segments, sparse on the disk."""
    with _folder() as folder:
        run = sparse_run(folder / "run", sizes)
        seconds = [_processor_seconds(lambda: analysis.open_trajectory(run))[0] for _ in range(repeats + 1)]
        tree = analysis.open_trajectory(run)
        return {
            "processor": seconds[1:],
            "with imports": seconds[0],
            "bytes": tree.nbytes,
            "segments": sizes.sparse_segments,
        }


def opening_events(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return seconds of the processor and memory (MiB) that opening a run of very many events and reading a scalar takes."""
    with _folder() as folder:
        _weights(folder / "first", 2, 2)
        analysis.open_trajectory(folder / "first")  # what is imported when a run is first opened
        begun = time.perf_counter()
        with analysis.TrajectoryWriter(folder / "run") as writer:
            writer.declare("performance", "V1", {"loss": Variable(())})
            for event in range(sizes.events):
                writer.record("performance", "V1", event, event * 0.25, event * 16, {"loss": 0.5})
        written = time.perf_counter() - begun
        del writer
        gc.collect()
        before, grown = _resident(), []
        opening, reading = [], []
        for _ in range(repeats):
            seconds, tree = _processor_seconds(lambda: analysis.open_trajectory(folder / "run"))
            opening.append(seconds)
            seconds, total = _processor_seconds(partial(_sum_of, tree, "performance/loss"))
            reading.append(opening[-1] + seconds)
            grown.append((_resident() - before) / 2**20)
            assert total == 0.5 * sizes.events
            del tree
        return {
            "open": opening,
            "processor": reading,
            "memory": grown[:1],
            "events": sizes.events,
            "record": written / sizes.events,
        }


def opening_many(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return the seconds that it takes to open many runs."""
    with _folder() as folder:
        _weights(folder / "0", 12, sizes.side, pathways=sizes.pathways)
        runs = [folder / str(number) for number in range(sizes.runs)]
        for run in runs[1:]:
            shutil.copytree(runs[0], run)
        seconds = []
        for _ in range(repeats):
            begun = time.perf_counter()
            trees = [analysis.open_trajectory(run) for run in runs]
            seconds.append(time.perf_counter() - begun)
        assert len(trees) == sizes.runs
        return {"ours": seconds, "runs": sizes.runs}


def reading(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return the seconds that reading takes: one synapse at every snapshot, and single snapshots, here and elsewhere."""
    with _folder() as folder:
        _weights(folder / "run", sizes.snapshots, sizes.side)
        stored = analysis.open_trajectory(folder / "run")[GROUP].to_dataset().drop_vars(["time", "observers_seen"])
        begun = time.perf_counter()
        values = stored["weight"].load()
        first = time.perf_counter() - begun
        stored = analysis.open_trajectory(folder / "run")[GROUP].to_dataset()
        others = {"ours": stored["weight"], **_elsewhere(values, folder)}
        chosen = np.random.default_rng(0).choice(sizes.snapshots, sizes.singles).tolist()
        synapse = {name: (lambda a=array: a[:, 3, 4].values) for name, array in others.items()}
        singles = {name: (lambda a=array: [a[row].values for row in chosen]) for name, array in others.items()}
        expected = values[:, 3, 4].values
        assert all(np.array_equal(read(), expected) for read in synapse.values())
        return {
            "synapse": _alternate(synapse, repeats),
            "singles": _alternate(singles, repeats),
            "everything, verified": first,
            "bytes": values.nbytes,
            "snapshots": sizes.snapshots,
            "read": sizes.singles,
        }


def writing(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return the seconds that it takes to store snapshots for good, here, in one NetCDF file and in zarr."""
    snapshots = np.random.default_rng(0).standard_normal((sizes.written, sizes.side, sizes.side)).astype(np.float32)

    def ours(folder: Path) -> None:
        with analysis.TrajectoryWriter(folder / "run") as writer:
            writer.declare("weights", PATHWAY, {"weight": Variable(("post", "pre"))})
            for event, weight in enumerate(snapshots):
                writer.record("weights", PATHWAY, event, event, event, {"weight": weight})

    def plain(folder: Path) -> None:
        with netCDF4.Dataset(folder / "plain.nc", "w") as file:
            for dim, size in zip(("snapshot", "post", "pre"), snapshots.shape, strict=True):
                file.createDimension(dim, size)
            variable = file.createVariable("weight", "f4", ("snapshot", "post", "pre"))
            for event, weight in enumerate(snapshots):
                variable[event] = weight
        with open(folder / "plain.nc", "rb") as written:
            os.fsync(written.fileno())

    def measured(store: Callable[[Path], None]) -> float:
        with _folder() as folder:
            begun = time.perf_counter()
            store(folder)
            return time.perf_counter() - begun

    found: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(repeats):
        found["ours"].append(measured(ours))
        found["plain"].append(measured(plain))
    return {**found, "bytes": snapshots.nbytes}


def compacting(sizes: Sizes, repeats: int) -> dict[str, Any]:
    """Return the seconds that it takes to make many small segments one, beside copying their bytes."""
    found: dict[str, list[float]] = {"ours": [], "plain": []}
    with _folder() as folder:
        _weights(folder / "run", sizes.written, sizes.side, segment_records=2)
        for number in range(repeats):
            begun = time.perf_counter()
            shutil.copytree(folder / "run", folder / str(number))
            found["plain"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            analysis.compact(folder / str(number))
            found["ours"].append(time.perf_counter() - begun)
    return {**found, "segments": sizes.written}


CASES: Mapping[str, Callable[[Sizes, int], dict[str, Any]]] = {
    "large": opening_large,
    "events": opening_events,
    "many": opening_many,
    "reading": reading,
    "writing": writing,
    "compacting": compacting,
}


def sparse_run(run: Path, sizes: Sizes) -> Path:
    """Make a run of many large segments whose files are holes; its index and its sizes are those of a real one."""
    (run / "trajectory").mkdir(parents=True)
    (run / "manifest.json").write_bytes(seal({"schema_version": 1, "run_id": "sparse", "state": "finished"}, indent=2))
    each = sizes.sparse_bytes // sizes.sparse_segments
    rows = 20
    units = int((each / (rows * 4 * sizes.pathways)) ** 0.5)
    attributes: dict[str, Any] = dict(variable_attributes("weights", "weight"))
    weight = StackedVariable(("post", "pre"), (units, units), np.dtype(np.float32), attributes)
    names = [f"V{number}->V{number + 1}" for number in range(sizes.pathways)]
    stacks = {f"weights/{group_of(name)}": Stack({"weight": weight}, {"pathway": name}, {}) for name in names}
    layout = Layout(stacks, {"alignment": Table(names, ["cosine", "trustworthy"])})
    layouts, lines = Layouts(), []
    size = rows * units * units * 4 * sizes.pathways + 2**16
    for number in range(sizes.sparse_segments):
        events = np.arange(number * rows, (number + 1) * rows)
        axis = {"groups": [SCALARS, *stacks], **Moments(events, events * 0.25, events * 16).record()}
        segment = Segment(
            file=segment_file(number),
            kinds=["alignment", "weights"],
            first_event=int(events[0]),
            last_event=int(events[-1]),
            shapes=shapes_of(layout, dict.fromkeys(axis["groups"], rows)),
            sha256="0" * 64,
            bytes=size,
            run="sparse",
            layout=layout.record(),
            axes=[axis],
        )
        lines.append(index_line(layouts.told_in(number, segment)) + "\n")
        with open(run / segment.file, "wb") as file:
            file.truncate(size)
    (run / "segments.jsonl").write_text("".join(lines))
    return run


def _weights(run: Path, snapshots: int, side: int, pathways: int = 1, **options: Any) -> None:
    """Store snapshots of dense weights, with an alignment at each."""
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((side, side)).astype(np.float32)
    names = [PATHWAY, *(f"V{number}->V{number + 1}" for number in range(2, pathways + 1))]
    with analysis.TrajectoryWriter(run, **options) as writer:
        for name in names:
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
            writer.declare("alignment", name, {"cosine": Variable(())})
        for event in range(snapshots):
            weight += 0.01
            for name in names:
                writer.record("weights", name, event, event * 0.25, event * 16, {"weight": weight})
                writer.record("alignment", name, event, event * 0.25, event * 16, {"cosine": 0.5})


def _elsewhere(values: xr.DataArray, folder: Path) -> dict[str, xr.DataArray]:
    """Return the same values lazily from one contiguous NetCDF file, and from zarr where it is installed."""
    data = values.variable.to_base_variable()
    data.encoding.clear()
    alone = xr.Dataset({"weight": data})
    alone.to_netcdf(folder / "plain.nc", engine="netcdf4")
    found = {"plain": xr.open_dataset(folder / "plain.nc", engine="netcdf4", cache=False)["weight"]}
    try:
        imported("zarr")
    except Exception:
        return found
    shape = values.shape
    shards = (min(shape[0], 500), *shape[1:])
    inner = next(size for size in (10, 5, 4, 2, 1) if shards[0] % size == 0 and shape[0] % shards[0] == 0)
    encoding = {"weight": {"chunks": (inner, *shape[1:]), "shards": shards}}
    alone.to_zarr(folder / "zarr", zarr_format=3, encoding=encoding, consolidated=False)
    found["zarr"] = xr.open_zarr(folder / "zarr", chunks=None, consolidated=False)["weight"]
    return found


def _alternate(tasks: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            taken[name].append(time.perf_counter() - begun)
    return taken


def _sum_of(tree: xr.DataTree, path: str) -> float:
    return float(tree[path].sum())


def _processor_seconds(task: Callable[[], Any]) -> tuple[float, Any]:
    gc.collect()
    begun = time.process_time()
    result = task()
    return time.process_time() - begun, result


def _resident() -> int:
    """Return the bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="neurossl-store-") as name:
        yield Path(name)


def _main(words: list[str]) -> None:
    sizes = TINY if "--tiny" in words else Sizes()
    chosen = [word for word in words if not word.startswith("--")] or list(CASES)
    for name in chosen:
        print(name, json.dumps(CASES[name](sizes, 3)), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
