"""NetCDF files that stay open between reads: opening one costs as much as reading many snapshots from it.

The least recently read is closed when there are too many, and a file that is another one by now is opened anew. Everything
happens while the lock of NetCDF is held. A forked child opens its own: what its parent has open is the parent's.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import netCDF4

from analysis.netcdf import declared_bytes, netcdf_lock, opened_for_reading
from neurossl.errors import TrajectoryError

MOST = 128
"""Files that are held open."""

Identity = tuple[int, int, int]
"""Size, time of change and inode of a file."""

_open: OrderedDict[str, tuple[Identity, netCDF4.Dataset]] = OrderedDict()
_of_the_parent: list[netCDF4.Dataset] = []


def identity(path: Path) -> Identity:
    """Return what tells a file from another one of the same name.

    Raises
    ------
    OSError
        If it is not there.
    """
    found = os.lstat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


@contextmanager
def held(path: Path, expected: Identity) -> Iterator[netCDF4.Dataset]:
    """Lend an open file to read its raw values, holding the lock.

    Parameters
    ----------
    path : Path
    expected : Identity
        Of the file that was found whole.

    Raises
    ------
    OSError, RuntimeError
        If it is missing or no NetCDF file.
    ValueError
        If it claims to hold more than there are bytes.
    TrajectoryError
        If it has just become another file.
    """
    key = str(path)
    with netcdf_lock():
        known = _open.get(key)
        if known is None or known[0] != expected:
            _close(key)
            dataset = opened_for_reading(path)
            dataset.set_auto_maskandscale(False)
            _open[key] = expected, dataset
            if (claimed := declared_bytes(dataset)) > expected[0]:
                _close(key)
                raise ValueError(f"it claims to hold {claimed:,} bytes of values, but has only {expected[0]:,}")
            if identity(path) != expected:
                _close(key)
                raise TrajectoryError(f"{path} has just become another file")
            while len(_open) > MOST:
                _close(next(iter(_open)))
        _open.move_to_end(key)
        yield _open[key][1]


def let_go(folder: Path) -> None:
    """Close what is held open below a folder."""
    start = f"{folder}".rstrip(os.sep) + os.sep
    with netcdf_lock():
        for key in [key for key in _open if key.startswith(start)]:
            _close(key)


def _close(key: str) -> None:
    found = _open.pop(key, None)
    if found is not None:
        with suppress(RuntimeError, OSError):
            found[1].close()


def _after_fork_in_child() -> None:
    _of_the_parent.extend(dataset for _, dataset in _open.values())
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
