"""A stored run as a zarr (version 3) hierarchy for object stores: ``neurossl export RUN FOLDER --format zarr``.

Snapshots are chunks of about a megabyte, many of which lie in one shard, so that a long run is a few files rather than one
per snapshot, and a single snapshot is still read alone. zarr is needed for this only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import xarray as xr

from neurossl.errors import OptionError, StorageError
from neurossl.files import synchronise_folder
from neurossl.surroundings import undisturbed
from neurossl.text import one_line

CHUNK = 2**20
"""Bytes that are read at a time, if a snapshot is no larger."""
SHARD = 64 * 2**20
"""Bytes of a file."""


def write_zarr(nodes: dict[str, xr.Dataset], target: Path) -> None:
    """Write the nodes of a tree by their stored paths; nothing is there until all of it is.

    Raises
    ------
    OptionError
        If zarr is not installed, or too old.
    StorageError
        If it cannot be written.
    """
    zarr = _zarr()
    temporary = target.with_name(f".{target.name[:100]}-{secrets.token_hex(6)}.tmp")
    try:
        temporary.mkdir()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*(Zarr format 3|V3 specification|does not have a Zarr V3).*")
            for path, node in nodes.items():
                _write_node(zarr, temporary, path, node)
        _for_files_below(temporary, _synchronise)
        os.rename(temporary, target)
        synchronise_folder(target.parent)
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise StorageError(f"cannot write {target}: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def layout_of(shape: tuple[int, ...], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return chunks and shards of a variable: whole snapshots, some of them together."""
    row = max(1, int(np.prod(shape[1:], dtype=object)) * itemsize)
    count = max(1, shape[0]) if shape else 1
    inner = max(1, min(count, CHUNK // row))
    together = max(1, min(-(-count // inner), SHARD // (inner * row)))
    rest = tuple(max(1, size) for size in shape[1:])
    return (inner, *rest), (inner * together, *rest)


def _zarr() -> ModuleType:
    try:
        with undisturbed():
            zarr = import_module("zarr")
        found = version("zarr")
    except ImportError:
        raise OptionError("export --format zarr needs zarr, which is not installed: pip install 'zarr>=3'") from None
    if int(found.split(".")[0]) < 3:
        raise OptionError(f"export --format zarr needs zarr 3 or later, not {found}: pip install 'zarr>=3'")
    return zarr


def _write_node(zarr: ModuleType, folder: Path, path: str, node: xr.Dataset) -> None:
    alone = xr.Dataset(coords=node.coords, attrs=node.attrs)
    for coordinate in alone.variables.values():
        coordinate.encoding.clear()
    alone.to_zarr(folder, group=path, mode="a", zarr_format=3, consolidated=False)
    group = zarr.open_group(folder, path=path.strip("/"), mode="r+", zarr_format=3)
    beside = [str(name) for name in node.coords if name not in node.dims]
    for name, variable in node.data_vars.items():
        chunks, shards = layout_of(variable.shape, variable.dtype.itemsize)
        its = [one for one in beside if set(node[one].dims) <= set(variable.dims)]
        attributes = {
            key: value.tolist() if isinstance(value, np.generic | np.ndarray) else value
            for key, value in variable.attrs.items()
        }
        stored = group.create_array(
            str(name),
            shape=variable.shape,
            dtype=variable.dtype,
            chunks=chunks,
            shards=shards,
            compressors=None,
            fill_value=np.nan if variable.dtype.kind == "f" else 0,
            dimension_names=[str(dim) for dim in variable.dims],
            attributes={**attributes, "coordinates": " ".join(its)} if its else attributes,
        )
        for start in range(0, variable.shape[0], shards[0]):
            rows = slice(start, min(start + shards[0], variable.shape[0]))
            stored[rows] = variable[rows].values


def _for_files_below(folder: Path, task: Callable[[Path], None]) -> None:
    for above, _, names in os.walk(folder):
        for name in names:
            task(Path(above) / name)


def _synchronise(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
