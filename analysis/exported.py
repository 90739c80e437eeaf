"""Exported files: one ordinary NetCDF-4 file with the manifest of its run, which ends with the checksum of all before it.

The checksum is the last line of the file, where NetCDF does not look, so that damage is found before the library parses
anything: damaged HDF5 can make it wait for ever. A tool that writes such a file anew leaves the line out; what has none is
first read by a process of its own that can be stopped.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr

from analysis.conventions import WAS, widened
from analysis.records import Configuration
from analysis.schema import LABELS, SCHEMA_VERSION, tree_attributes
from analysis.tree import MOMENTS, named_tree, root_of_moments
from analysis.validation import conform
from neurossl.errors import TrajectoryError
from neurossl.files import digest, opened
from neurossl.text import one_line

MANIFEST = "manifest"
"""Attribute of an exported file: the manifest of the run as JSON."""
AXIS_OF_ROOT = "moment"
"""Along which the root of an exported file keeps its moments."""
_SEAL = re.compile(rb"\nneurossl sha256 ([0-9a-f]{64})\n")
_SEAL_BYTES = 82
_BLOCK = 32 * 2**20
_SECONDS, _SECONDS_PER_GB = 4, 20
"""Seconds of processor time that reading a file without a checksum may take."""
_MOST_COMPRESSED = 1100
"""No filter of NetCDF makes values smaller than that."""


def seal_file(path: Path) -> None:
    """Append the checksum of a file to it, durably."""
    line = f"\nneurossl sha256 {digest(path)}\n".encode()
    with open(path, "ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def verify_exported(path: Path) -> bool:
    """Hold an exported file against its checksum; return whether it has one.

    Raises
    ------
    TrajectoryError
        If it is damaged or cannot be read.
    """
    try:
        size = path.stat().st_size
        with open(opened(path), "rb") as file:
            file.seek(max(0, size - _SEAL_BYTES))
            found = _SEAL.fullmatch(file.read(_SEAL_BYTES))
        if found is not None:
            if digest(path, size - _SEAL_BYTES) != found[1].decode():
                raise TrajectoryError(f"{path} does not match its checksum: it was damaged")
            return True
        if _has_trailing_bytes(path):
            raise TrajectoryError(f"{path} is damaged: its checksum cannot be read, or it was cut short")
    except OSError as error:
        raise TrajectoryError(f"{path} cannot be read ({error.strerror})") from None
    _examine_apart(path)
    return False


def open_exported(path: Path) -> xr.DataTree:
    """Return an exported file as a lazy tree, the same as that of its run, once it is found whole.

    Raises
    ------
    TrajectoryError
        If it is damaged, or something else.
    """
    stored = _tree_of(path)
    about = _unpacked(stored.attrs.pop(MANIFEST, None))
    nodes = {node.path: node.to_dataset(inherit=node.path.strip("/") in LABELS) for node in stored.subtree}
    root = nodes["/"]
    there = [name for name in MOMENTS if name in root.variables]
    along = {name: widened(xr.Variable("event", root[name].values, root[name].attrs)) for name in there}
    nodes["/"] = root_of_moments(along, _attributes_of_tree(root.attrs, about))
    if "/alignment" in nodes and nodes["/alignment"].get("trustworthy", xr.DataArray(0.0)).dtype == bool:  # of an older file
        nodes["/alignment"] = nodes["/alignment"].assign(trustworthy=nodes["/alignment"]["trustworthy"].astype(float))
    for place, node in nodes.items():
        narrow = [name for name, variable in node.coords.variables.items() if WAS in variable.attrs]
        if place != "/" and narrow:
            again = {name: widened(node[name].variable) for name in narrow}
            nodes[place] = node.drop_vars(narrow).assign_coords(again)
    tree = named_tree({place: node for place, node in nodes.items() if place == "/" or node.variables})
    tree.set_close(stored.close)
    return tree


def _attributes_of_tree(attributes: dict[Any, Any], about: Any) -> dict[Any, Any]:
    """Return the attributes that the tree of the run had: those of the file without what only other programs want."""
    try:
        own = tree_attributes(about)
    except (TypeError, LookupError, AttributeError):
        return attributes
    return {name: attributes.get(name, value) for name, value in own.items()}


def read_exported_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest that an exported file carries; of one written anew without it, what the attributes say.

    Raises
    ------
    TrajectoryError
        If it is damaged, or something else.
    """
    with _tree_of(path) as tree:
        attributes = {str(name): _unpacked(value) for name, value in tree.attrs.items()}
    about = attributes.get(MANIFEST, attributes)
    try:
        conform(about, Configuration, MANIFEST)
        conform(about.get("state"), str, "state")
    except ValueError as fault:
        raise TrajectoryError(f"{path} does not carry the manifest of its run: {one_line(fault)}") from None
    return about


def blocks(shape: Sequence[int], nbytes: int) -> Iterator[slice]:
    """Yield rows that together take some tens of megabytes."""
    count = max(shape[0], 1)
    step = max(1, _BLOCK * count // max(nbytes, 1))
    return (slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step))


def _tree_of(path: Path) -> xr.DataTree:
    """Return an exported file with all of its attributes."""
    verify_exported(path)
    try:
        str(path).encode()
        tree = xr.open_datatree(path, engine="netcdf4")
    except UnicodeEncodeError:
        raise TrajectoryError(f"{path} has a name that is no text: give it another one") from None
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, OverflowError, AttributeError) as error:
        raise TrajectoryError(f"{path} cannot be read as NetCDF: {one_line(error)}") from None
    version = tree.attrs.get("schema_version")
    if not np.array_equal(np.asarray(version), SCHEMA_VERSION):
        found = one_line(version)
        tree.close()
        raise TrajectoryError(f"{path} is no exported trajectory: schema_version is {found}, expected {SCHEMA_VERSION}")
    return tree


def _unpacked(value: Any) -> Any:
    """Return an attribute as JSON has it."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value.item() if isinstance(value, np.generic) else value


def _has_trailing_bytes(path: Path) -> bool:
    """Return whether an HDF5 file goes on behind its end: where a checksum was that is damaged."""
    with open(opened(path), "rb") as file:
        block = file.read(64)
        size = os.fstat(file.fileno()).st_size
    if not block.startswith(b"\x89HDF\r\n\x1a\n") or len(block) < 64:
        return False
    place = {0: 40, 1: 44}.get(block[8], 28)  # where each version of the format keeps its end
    return int.from_bytes(block[place : place + 8], "little") != size


def _examine_apart(path: Path) -> None:
    """Read a file that has no checksum in a process of its own, and refuse it if that fails or takes too long."""
    limit = _SECONDS + int(_SECONDS_PER_GB * path.stat().st_size / 1e9)
    here = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *filter(None, sys.path)])}
    command = [sys.executable, "-m", "analysis.exported", str(limit), str(path)]
    done = subprocess.run(command, capture_output=True, env=environment, check=False, cwd="/")
    said = done.stdout.decode(errors="replace").strip()
    if done.returncode or said != "readable":
        reason = one_line(said) or "it makes the library stop or wait for ever"
        raise TrajectoryError(f"{path} cannot be read as NetCDF: {reason}")


def _examine(path: str) -> str:
    """Read all of a file; return "readable", or why it is not."""
    from analysis.netcdf import declared_bytes

    with netCDF4.Dataset(path) as dataset:
        claimed, size = declared_bytes(dataset), os.path.getsize(path)
        if claimed > _MOST_COMPRESSED * size:
            return f"it claims to hold {claimed:,} bytes of values, but has only {size:,}"
        dataset.set_auto_maskandscale(False)
        waiting = [dataset]
        while waiting:
            group = waiting.pop()
            waiting += group.groups.values()
            for variable in group.variables.values():
                if not variable.ndim:
                    _ = variable[...]
                    continue
                itemsize = getattr(np.dtype(variable.dtype), "itemsize", 1)
                for rows in blocks(variable.shape, int(np.prod(variable.shape)) * itemsize):
                    _ = variable[rows]
    return "readable"


def _main() -> None:
    import resource

    seconds, path = int(sys.argv[1]), sys.argv[2]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        print(_examine(path))
    except Exception as error:
        print(one_line(error))


if __name__ == "__main__":
    _main()
