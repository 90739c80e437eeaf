"""How a run begins on the disk: as a new folder, or after its last record; always with the lock of the folder."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from analysis.index import index_lines, read_index
from analysis.journal import Journal, Limits, remove_unlisted
from analysis.schema import SCHEMA_VERSION
from analysis.storage import FOLDER, INDEX, now, stored_manifest, write_manifest
from analysis.stored import StoredLayout
from neurossl.errors import OptionError, TrajectoryError
from neurossl.files import LOCK, FolderLock, make_folder, write_atomically
from neurossl.process import ProcessId

LIBRARIES = ("neurossl", "torch", "torchvision", "brian2", "numpy", "scipy", "xarray", "netCDF4", "scikit-learn")


def create(path: Path, limits: Limits) -> Journal:
    """Make the folder of a new run.

    Raises
    ------
    OptionError
        If it has something in it or cannot be written.
    """
    taken = OptionError(f"{path} exists already: choose a new folder for the run or remove it first")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "run_id": uuid.uuid4().hex,
        "state": "running",
        "reason": None,
        "versions": _versions(),
        "hardware": _hardware(),
        "started": now(),
        **_life(),
    }
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise taken
        make_folder(path)
        lock = FolderLock(path, "the run")
        try:
            if set(os.listdir(path)) - {LOCK}:  # another writer was faster
                raise taken
            make_folder(path / FOLDER)
            write_manifest(path, manifest)
            return Journal(path, lock, manifest, [], limits)
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise OptionError(f"cannot write a run to {path}: {error.strerror}") from None


def reopen(path: Path, limits: Limits) -> tuple[Journal, StoredLayout]:
    """Go on with a run after its last stored record, and say how it is laid out.

    What a killed writer has left behind is removed: segments that it had not listed yet, a line cut short, its temporaries.

    Raises
    ------
    TrajectoryError
        If it is no run, or anything of it is damaged; it is left as it is then.
    StorageError
        If another process writes it.
    OptionError
        If it cannot be written.
    """
    stored_manifest(path)  # a folder that is no run gets no lock either
    try:
        lock = FolderLock(path, "the run")
        try:
            manifest = stored_manifest(path)
            if (path / FOLDER).is_symlink():
                raise TrajectoryError(f"{path / FOLDER}: it is a link, expected a folder of the run's own")
            segments = read_index(path, manifest)
            layout = StoredLayout.read(path, segments)
            lines, torn = index_lines(path)
            if torn:
                write_atomically(path / INDEX, b"".join(line + b"\n" for line in lines))
            remove_unlisted(path, segments)
            before: dict[str, Any] = {
                key: manifest.pop(key) for key in ("ended", "segments", "stored_bytes") if key in manifest
            }
            before |= {key: manifest.get(key) for key in ("state", "reason", "process", "versions", "hardware")}
            manifest["resumed"] = [*manifest.get("resumed", []), {**before, "when": now()}]
            manifest |= {"run_id": manifest.get("run_id", uuid.uuid4().hex), "state": "running", "reason": None, **_life()}
            manifest |= {"versions": _versions(), "hardware": _hardware()}
            write_manifest(path, manifest)
            return Journal(path, lock, manifest, segments, limits), layout
        except BaseException:
            lock.release()
            raise
    except OSError as error:
        raise OptionError(f"cannot write to {path}: {error.strerror}") from None


def _life() -> dict[str, Any]:
    return {"process": ProcessId.current().describe(), "last_sign_of_life": now()}


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that matter, without importing them."""
    versions = {"python": platform.python_version()}
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return versions


def _hardware() -> dict[str, Any]:
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "platform": platform.platform()}
