"""What a stored run is, whether it is whole, and how to hand it on: ``neurossl info``, ``verify`` and ``export``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import netCDF4
import numpy as np
import xarray as xr

from analysis.schema import LABELS, TENSOR_KINDS
from analysis.segment import create_variable, write_coordinate
from analysis.storage import find_damage, netcdf_lock, read_comparison, read_index, read_manifest, synchronise_folder
from analysis.trajectory import open_trajectory
from neurossl.errors import OptionError, StorageError, TrajectoryError

_BLOCK = 32 * 2**20


class Verified(NamedTuple):
    """What was re-read and found whole."""

    runs: int
    segments: int
    bytes: int

    def __str__(self) -> str:
        runs = f"{self.runs} runs, " if self.runs != 1 else ""
        return f"{runs}{self.segments} segments, {self.bytes:,} bytes: every checksum matches"


def verify(run: str | os.PathLike[str]) -> Verified:
    """Re-read every stored byte of a run, or of all runs of a comparison, against its checksum.

    Raises
    ------
    TrajectoryError
        Naming each file that is missing, damaged or not what the index says.
    """
    counts = [_verify(path) for path in _runs(Path(run))]
    return Verified(len(counts), sum(segments for segments, _ in counts), sum(size for _, size in counts))


def export(run: str | os.PathLike[str], file: str | os.PathLike[str]) -> Path:
    """Write a run as one ordinary NetCDF-4 file, the same tree for any NetCDF tool; nothing is there until all of it is.

    Parameters
    ----------
    run : str or path
        A run in any state; of a running one, what is stored so far.
    file : str or path
        The file to make; refused if it exists.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OptionError
        If the file exists or its folder does not.
    StorageError
        If the disk is too small or the file cannot be written.
    TrajectoryError
        If the run is damaged.
    """
    target = Path(file)
    if os.path.lexists(target):
        raise OptionError(f"{target} exists already: choose another name or remove it first")
    if not target.parent.is_dir():
        raise OptionError(f"cannot write {target}: {target.parent} is no folder")
    tree = open_trajectory(run)
    needed, free = tree.nbytes, shutil.disk_usage(target.parent).free
    if needed > free:
        raise StorageError(f"cannot write {target}: it takes {_size(needed)}, only {_size(free)} are free")
    temporary = target.with_name(target.name + ".tmp")
    try:
        _copy(tree, temporary)
        os.replace(temporary, target)
        synchronise_folder(target.parent)
    except (OSError, RuntimeError) as error:
        raise StorageError(f"cannot write {target}: {_reason(error)} (it takes {_size(needed)})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def describe(run: str | os.PathLike[str]) -> str:
    """Say in words what is in a run folder, an exported file, or the folder of a comparison.

    Raises
    ------
    TrajectoryError
        If it is none of these, or damaged.
    """
    path = Path(run)
    if (path / "comparison.json").is_file():
        return "\n".join([f"{path}: a comparison of {len(_runs(path))} runs", *(_headline(each) for each in _runs(path))])
    with open_trajectory(path) as tree:
        about = {str(key): value for key, value in tree.attrs.items()} | (read_manifest(path) if path.is_dir() else {})
        lines = [f"{path}: {_state(about)}", *_configuration(about), *_learned(tree, about)]
        lines += [*_network(about), "  recorded", *(_contents(tree) or ["    nothing yet"])]
    return "\n".join(lines)


def _verify(run: Path) -> tuple[int, int]:
    segments = read_index(run, read_manifest(run, strict=True))
    if damage := find_damage(run, segments):
        raise TrajectoryError(f"{run} is damaged in {len(damage)} of {len(segments)} segments: {'; '.join(damage)}")
    open_trajectory(run)
    return len(segments), sum(segment.bytes for segment in segments)


def _runs(path: Path) -> list[Path]:
    """Return the runs of a comparison, or the run itself."""
    index = path / "comparison.json"
    return read_comparison(index)[0] if index.is_file() else [path]


def _copy(tree: xr.DataTree, path: Path) -> None:
    """Write a tree variable by variable, in blocks of a few snapshots; read and write take the NetCDF lock in turn."""
    with netcdf_lock():
        dataset = netCDF4.Dataset(path, "w")
        dataset.set_fill_off()
    try:
        for node in tree.subtree:
            data = node.to_dataset(inherit=False)
            auxiliary = [str(name) for name in data.coords if name not in data.dims]
            with netcdf_lock():
                group = dataset if node.path == "/" else dataset.createGroup(node.path)
                group.setncatts(data.attrs)
                if auxiliary:
                    group.setncattr("coordinates", " ".join(auxiliary))
                for dim, size in data.sizes.items():
                    if node.path == "/" or dim not in tree.sizes:
                        group.createDimension(str(dim), size)
            for name, variable in data.variables.items():
                if variable.dtype.kind in "UOT":
                    with netcdf_lock():
                        write_coordinate(group, str(name), str(variable.dims[0]), variable.values, variable.attrs)
                    continue
                dims = tuple(map(str, variable.dims))
                with netcdf_lock():
                    stored = create_variable(group, str(name), dims, variable.dtype, variable.attrs)
                for rows in _blocks(variable):
                    values = variable[rows].values
                    with netcdf_lock():
                        stored[rows] = values
    finally:
        with netcdf_lock():
            dataset.close()
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _blocks(variable: xr.Variable) -> Iterator[slice]:
    """Yield rows that together take some tens of megabytes."""
    count = max(variable.shape[0], 1)
    step = max(1, _BLOCK * count // max(variable.nbytes, 1))
    return (slice(start, min(start + step, variable.shape[0])) for start in range(0, variable.shape[0], step))


def _headline(run: Path) -> str:
    about = read_manifest(run)
    return f"  {run}: {_state(about)}, rule {about.get('rule', 'unknown')}, seed {about.get('seed', 'unknown')}"


def _state(about: dict[str, Any]) -> str:
    state = f"{about['state']} run" + (f" of {about['protocol']}" if "protocol" in about else "")
    return f"{state} ({about['reason']})" if about.get("reason") else state


def _configuration(about: dict[str, Any]) -> list[str]:
    keys = ("rule", "objective", "transport", "needs", "reference", "seed", "seeds", "dataset", "device", "dtype", "started")
    lines = []
    for key in keys:
        value = about.get(key, "")
        if key == "needs" and isinstance(value, str) and value:  # in an exported file
            value = json.loads(value)
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        if text not in (None, ""):
            lines.append(f"  {key:<11}{text}")
    return lines


def _learned(tree: xr.DataTree, about: dict[str, Any]) -> list[str]:
    """Say how far the learning has come: the last moment of anything recorded."""
    parts = [(tree.to_dataset(), "event"), *((leaf.to_dataset(), "snapshot") for leaf in tree.leaves)]
    last = [
        tuple(part[name].values[-1] for name in (axis, "time", "observers_seen"))
        for part, axis in parts
        if part.sizes.get(axis)
    ]
    if not last:
        return []
    event, time, observers = max(last)
    wall = f", learned in {about['seconds']:.1f} s" if "seconds" in about else ""
    return [f"  learning   up to event {event}, {time:g} s of biological time, {observers:,} observers{wall}"]


def _network(about: dict[str, Any]) -> list[str]:
    network = about.get("network")
    if isinstance(network, str):  # in an exported file
        network = json.loads(network)
    if not network:
        return []
    populations, pathways = network.get("populations", []), network.get("pathways", [])
    synapses = sum(pathway.get("synapses", 0) for pathway in pathways)
    lines = [f"  network    {len(populations)} populations, {len(pathways)} pathways, {synapses:,} synapses"]
    for population in populations:
        words = [_shape(population["shape"]), population.get("transfer")] if "shape" in population else []
        lines.append(f"    {population['name']:<22}" + ", ".join(str(word) for word in words if word))
    for pathway in pathways:
        words = [pathway.get("kind"), _shape(pathway["shape"]) if "shape" in pathway else None]
        words.append("plastic" if pathway.get("plastic") else "fixed")
        lines.append(f"    {pathway['name']:<22}" + ", ".join(word for word in words if word))
    return lines


def _contents(tree: xr.DataTree) -> list[str]:
    lines = []
    for kind in (*TENSOR_KINDS, *LABELS):
        node = tree.children.get(kind)
        if node is None:
            continue
        if kind in TENSOR_KINDS:
            for child in node.children.values():
                data = child.to_dataset(inherit=False)
                variables = ", ".join(f"{name} {_shape(v.shape[1:])} {v.dtype}" for name, v in data.data_vars.items())
                count = data.sizes["snapshot"]
                lines.append(
                    f"    {kind} of {data.attrs['pathway']}: {count} snapshots of {variables}; {_size(data.nbytes)}"
                )
        else:
            data = node.to_dataset()
            label = LABELS[kind]
            numbers = [variable for variable in data.data_vars.values() if variable.dtype.kind == "f"]
            count = max((int(variable.notnull().any(label).sum()) for variable in numbers), default=0)
            names = ", ".join(map(str, data[label].values))
            lines.append(f"    {kind} of {names}: {', '.join(map(str, data.data_vars))} at {count} events")
    return lines


def _shape(shape: Any) -> str:
    return " x ".join(map(str, np.atleast_1d(shape)))


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
