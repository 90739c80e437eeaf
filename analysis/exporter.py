"""A stored run as one ordinary NetCDF-4 file: ``neurossl export``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import netCDF4
import xarray as xr

from analysis.conventions import global_attributes, narrowed
from analysis.exported import AXIS_OF_ROOT, MANIFEST, blocks, seal_file
from analysis.netcdf import create_variable, netcdf_lock, new_dataset, write_coordinate
from analysis.trajectory import manifest, open_trajectory
from analysis.tree import is_stack, stored_name
from analysis.zarr_exporter import write_zarr
from neurossl.errors import OptionError, StorageError
from neurossl.files import absolute, remove_abandoned, synchronise_folder, temporary_for
from neurossl.text import one_line


def export(run: str | os.PathLike[str], file: str | os.PathLike[str], format: str = "netcdf") -> Path:
    """Write a run as one ordinary NetCDF-4 file, the same tree for any NetCDF tool; nothing is there until all of it is.

    Its attribute ``manifest`` is all that the run says about itself, as JSON; every member of it is an attribute of its own
    as well. The file follows the CF and ACDD conventions (`analysis.conventions`).

    Parameters
    ----------
    run : str or path
        A run in any state; of a running one, what is stored so far.
    file : str or path
        The file to make; refused if it exists. It ends with its checksum, which ``neurossl verify FILE`` reads.
    format : {"netcdf", "zarr"}
        "zarr" makes a folder in the zarr format (version 3, sharded), for object stores, to be opened with
        ``xarray.open_datatree(FOLDER, engine="zarr")``; it needs zarr and carries no checksum.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OptionError
        If the file exists or its folder does not, the format is none of these, or zarr is not installed.
    StorageError
        If the disk is too small or the file cannot be written.
    TrajectoryError
        If the run is damaged.
    """
    if format not in ("netcdf", "zarr"):
        raise OptionError(f"export: format {one_line(format)} does not exist, expected netcdf or zarr")
    target = absolute(file)
    if os.path.lexists(target):
        raise OptionError(f"{target} exists already: choose another name or remove it first")
    if not target.parent.is_dir():
        raise OptionError(f"cannot write {target}: {target.parent} is no folder")
    tree, about = open_trajectory(run), manifest(run)
    tree.attrs = {**global_attributes(about), **tree.attrs, MANIFEST: json.dumps(about)}
    needed, free = tree.nbytes, shutil.disk_usage(target.parent).free
    if needed > free:
        raise StorageError(f"cannot write {target}: it takes {size_in_words(needed)}, only {size_in_words(free)} are free")
    remove_abandoned(target.parent)
    if format == "zarr":
        nodes = {_stored_path(node): node.to_dataset(inherit=False) for node in tree.subtree}
        nodes["/"] = _without_axis_of_its_own(nodes["/"])
        write_zarr({path: node for path, node in nodes.items() if path == "/" or node.variables}, target)
        return target
    try:
        with temporary_for(target) as temporary:
            _copy(tree, temporary)
            seal_file(temporary)
            _publish(temporary, target)
        synchronise_folder(target.parent)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise StorageError(f"cannot write {target}: {reason} (it takes {size_in_words(needed)})") from error
    return target


def size_in_words(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def _publish(temporary: Path, target: Path) -> None:
    """Give a finished file its name, unless something else has got it meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise OptionError(f"{target} exists already: something else has just been written there") from None
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise OptionError(f"{target} exists already: something else has just been written there") from None
        os.replace(temporary, target)


def _copy(tree: xr.DataTree, path: Path) -> None:
    """Write a tree variable by variable, in blocks of a few snapshots; read and write take the NetCDF lock in turn."""
    with new_dataset(path) as dataset:
        for node in tree.subtree:
            data = node.to_dataset(inherit=False)
            if node.path == "/":
                data = _without_axis_of_its_own(data)
            auxiliary = [name for name in data.coords if name not in data.dims]
            with netcdf_lock():
                group = dataset if node.path == "/" else dataset.createGroup(_stored_path(node))
                group.setncatts(data.attrs)
                for dim, size in data.sizes.items():
                    group.createDimension(str(dim), size)
            for name, variable in data.variables.items():
                of_it = [str(beside) for beside in auxiliary if set(data[beside].dims) <= set(variable.dims)]
                stored = narrowed(variable) if name in data.coords else variable
                copy_variable(group, str(name), stored, [] if name in data.coords else of_it)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _without_axis_of_its_own(root: xr.Dataset) -> xr.Dataset:
    """Return the root with its moments along an axis of their own, since an axis with an index is handed down."""
    along = {name: xr.Variable(AXIS_OF_ROOT, variable.data, variable.attrs) for name, variable in root.variables.items()}
    return xr.Dataset(coords=xr.Coordinates(along, indexes={}), attrs=root.attrs)


def _stored_path(node: xr.DataTree) -> str:
    parts = node.path.split("/")
    return "/".join([*parts[:-1], stored_name(parts[-1], node.attrs)] if is_stack(node.path) else parts)


def copy_variable(group: netCDF4.Dataset, name: str, variable: xr.Variable, beside: Sequence[str] = ()) -> None:
    """Write a variable in blocks of a few snapshots; read and write take the NetCDF lock in turn.

    Parameters
    ----------
    group : netCDF4.Dataset
    name : str
    variable : Variable
    beside : sequence of str
        Its auxiliary coordinates: those that lie along its axes and are not called like them.
    """
    attributes = {**variable.attrs, "coordinates": " ".join(beside)} if beside else variable.attrs
    if variable.dtype.kind in "UOT":
        with netcdf_lock():
            write_coordinate(group, name, (str(variable.dims[0]),), variable.values, attributes)
        return
    with netcdf_lock():
        stored = create_variable(group, name, tuple(map(str, variable.dims)), variable.dtype, attributes)
    for rows in blocks(variable.shape, variable.nbytes):
        values = variable[rows].values
        with netcdf_lock():
            stored[rows] = values
