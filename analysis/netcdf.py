"""The door to the NetCDF library: its lock, also across forks, and variables the way xarray reads them back.

netCDF-C is not thread-safe: every call of it holds the lock that xarray holds too. A fork waits until no call is under way,
so that the child finds the library whole, and the child gets locks that nobody holds.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import netCDF4
import numpy as np

_PATIENCE = 10.0
"""Seconds that a fork waits for a call of NetCDF to end; longer than any that does not hang."""


def netcdf_lock() -> AbstractContextManager[Any]:
    """Return the lock to hold in every call of NetCDF."""
    from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK

    return NETCDF4_PYTHON_LOCK


@contextmanager
def dataset_of(path: Path) -> Iterator[netCDF4.Dataset]:
    """Open a file to read its raw values, holding the lock.

    Raises
    ------
    OSError, RuntimeError
        If it is missing or no NetCDF file.
    """
    with netcdf_lock(), _opened(path, "r") as dataset:
        dataset.set_auto_maskandscale(False)
        yield dataset


@contextmanager
def _opened(path: Path, mode: Literal["r", "w"]) -> Iterator[netCDF4.Dataset]:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # a name that NetCDF cannot be told
        descriptor = os.open(path, os.O_RDWR if mode == "w" else os.O_RDONLY)
        try:
            with netCDF4.Dataset(f"/proc/self/fd/{descriptor}", mode) as dataset:
                yield dataset
        finally:
            os.close(descriptor)
    else:
        with netCDF4.Dataset(path, mode) as dataset:
            yield dataset


def opened_for_reading(path: Path) -> netCDF4.Dataset:
    """Open a file to stay open; the lock is held, and to be held when it is read and closed.

    Raises
    ------
    OSError, RuntimeError
        If it is missing or no NetCDF file.
    """
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # a name that NetCDF cannot be told
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return netCDF4.Dataset(f"/proc/self/fd/{descriptor}", "r")
        finally:
            os.close(descriptor)
    return netCDF4.Dataset(path, "r")


@contextmanager
def new_dataset(path: Path) -> Iterator[netCDF4.Dataset]:
    """Overwrite a file that is there with a new NetCDF-4 file; the lock is held to open and to close it, not between."""
    opening = _opened(path, "w")
    with netcdf_lock():
        dataset = opening.__enter__()
        dataset.set_fill_off()  # every variable is written in full
    try:
        yield dataset
    finally:
        with netcdf_lock():
            opening.__exit__(None, None, None)


def create_variable(
    group: netCDF4.Dataset, name: str, dims: tuple[str, ...], dtype: np.dtype, attributes: Mapping[str, Any]
) -> netCDF4.Variable:
    """Create a variable of numbers the way xarray reads it back: booleans as int8, NaN as the fill value of floats."""
    if dtype.kind == "b":
        variable = group.createVariable(name, "i1", dims)
        variable.setncattr("dtype", "bool")
    else:
        variable = group.createVariable(name, dtype, dims, fill_value=np.nan if dtype.kind == "f" else None)
    variable.setncatts(attributes)
    return variable


def stored_dtype(variable: netCDF4.Variable) -> np.dtype:
    """Return the number type of a variable, bool where `create_variable` was given that."""
    is_bool = variable.dtype == np.int8 and "dtype" in variable.ncattrs() and variable.getncattr("dtype") == "bool"
    return np.dtype(bool) if is_bool else np.dtype(variable.dtype)


def write_coordinate(
    group: netCDF4.Dataset, name: str, dims: tuple[str, ...], values: np.ndarray, attributes: Mapping[str, Any]
) -> None:
    """Write a coordinate of numbers or text; text as characters, since HDF5 crashes on strings in a file opened twice."""
    if values.dtype.kind not in "UOT":
        create_variable(group, name, dims, values.dtype, attributes)[...] = values
        return
    encoded = np.array([str(value).encode() for value in values], bytes)
    width = encoded.dtype.itemsize
    if f"string{width}" not in group.dimensions:
        group.createDimension(f"string{width}", width)
    variable = group.createVariable(name, "S1", (*dims, f"string{width}"))
    variable.setncatts({**attributes, "_Encoding": "utf-8"})
    variable.set_auto_chartostring(False)
    variable[...] = encoded.view("S1").reshape(len(values), width)


def declared_bytes(dataset: netCDF4.Dataset) -> int:
    """Return how many bytes all variables of a file claim to have, without reading any."""
    own = sum(
        int(np.prod(variable.shape, dtype=object)) * getattr(np.dtype(variable.dtype), "itemsize", 1)
        for variable in dataset.variables.values()
    )
    return own + sum(declared_bytes(group) for group in dataset.groups.values())


_held: list[Any] = []


def _inner_locks() -> list[Any]:
    """Return the locks that make up that of NetCDF, in the order in which everybody takes them."""
    return list(netcdf_lock().locks)  # type: ignore[attr-defined]


def _before_fork() -> None:
    if "xarray.backends.netCDF4_" not in sys.modules:
        return  # nobody has called the library yet
    _held.extend(lock for lock in _inner_locks() if lock.acquire(timeout=_PATIENCE))


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    if "xarray.backends.netCDF4_" not in sys.modules:
        return
    from xarray.backends.file_manager import FILE_CACHE

    _held.clear()
    for lock in _inner_locks():
        lock.lock = lock._locks[lock.token] = threading.Lock()
    FILE_CACHE._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
