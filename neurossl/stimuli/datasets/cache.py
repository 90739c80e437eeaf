"""Memory-mapped copies of decoded images: for sets that are decoded once and are larger than memory.

    FOLDER/NAME-KEY/images.json, train.npy, test.npy, unlabelled.npy

The key is a digest of what was decoded (paths, sizes and times of the files) and how, so that a changed data set gets a copy
of its own. A copy is made under another name and renamed when it is complete; the checksum of every file is checked when it
is opened. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from neurossl.errors import StimulusError, StorageError
from neurossl.stimuli.datasets.access import mapped, open_regular, read_small, shown
from neurossl.stimuli.datasets.decoding import Decoding, read_pictures
from neurossl.stimuli.datasets.workers import results_ahead

VERSION = 2
"""Of what a copy holds: raised when the same files are decoded in another way."""
_INDEX = "images.json"
_MOST_INDEX = 2**16
_BLOCK = 2**24


def map_files(
    parts: Mapping[str, Sequence[Path]], decoding: Decoding, root: Path, folder: Path, name: str
) -> dict[str, Tensor]:
    """Return the pictures of files, memory-mapped from a copy that is made if there is none.

    Parameters
    ----------
    parts : mapping of str to sequence of Path
        Files by part, such as "train".
    decoding : Decoding
    root : Path
        Folder of the files.
    folder : Path
        Where copies are kept.
    name : str
        What the copy is called.

    Returns
    -------
    dict of str to Tensor of uint8, (images, channels, height, width)
        Writing to one changes neither the file nor what others see.

    Raises
    ------
    StimulusError
        If a picture cannot be read, or a copy is damaged; names the file.
    StorageError
        If the copy cannot be written.
    """
    copy = folder / f"{name}-{_key(parts, decoding, root)}"
    if not copy.is_dir():
        _make(parts, decoding, copy)
    return _open(copy, {part: (len(files), *decoding.shape) for part, files in parts.items()})


def _key(parts: Mapping[str, Sequence[Path]], decoding: Decoding, root: Path) -> str:
    digest = hashlib.sha256(f"{VERSION} {decoding}".encode())
    for part, files in parts.items():
        digest.update(f"\0{part}".encode())
        for file in files:
            status = file.stat()
            digest.update(
                f"\0{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}".encode(errors="surrogateescape")
            )
    return digest.hexdigest()[:16]


def _make(parts: Mapping[str, Sequence[Path]], decoding: Decoding, copy: Path) -> None:
    """Decode all files into a folder of another name, then give it its own."""
    count = sum(map(len, parts.values()))
    needed = count * int(np.prod(decoding.shape))
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(copy)
        free = shutil.disk_usage(copy.parent).free
        if needed > free:
            raise StorageError(
                f"{copy.parent}: a copy of the images needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"
            )
        # Of a name that nobody can know before.
        unfinished = Path(tempfile.mkdtemp(prefix=f".{copy.name}.unfinished-{_host()}-{os.getpid()}-", dir=copy.parent))
        try:
            index: dict[str, Any] = {"version": VERSION, "parts": {}}
            with tqdm(total=count, desc=f"decoding into {copy}", unit="image", mininterval=0.5) as bar:
                for part, files in parts.items():
                    index["parts"][part] = _write(files, decoding, unfinished / f"{part}.npy", bar)
            (unfinished / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
            unfinished.chmod(0o777 & ~_umask())
            _put_in_place(unfinished, copy)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as reason:
        where = reason.filename or copy.parent
        raise StorageError(f"{where}: the copy of the images cannot be written ({reason.strerror or reason})") from None


def _put_in_place(unfinished: Path, copy: Path) -> None:
    """Rename; where another process was faster, its copy is the same."""
    try:
        unfinished.rename(copy)
    except OSError:
        if not copy.is_dir():
            raise


def _remove_abandoned(copy: Path) -> None:
    """Remove what is left of processes that ended while they made this copy."""
    begin = f".{copy.name}.unfinished-{_host()}-"
    for left in copy.parent.iterdir():
        process = left.name.removeprefix(begin).partition("-")[0]
        if left.name.startswith(begin) and process.isdecimal() and len(process) < 10 and not _runs(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _host() -> str:
    """Return the name of this machine, of letters, digits and dots: another one may share the folder."""
    return "".join(c if c.isalnum() else "." for c in socket.gethostname())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(files: Sequence[Path], decoding: Decoding, target: Path, bar: tqdm) -> dict[str, Any]:
    """Write one array and return what its index says of it."""
    shape = (len(files), *decoding.shape)
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    digest = hashlib.sha256(head.getvalue())
    with target.open("wb") as out:
        out.write(head.getvalue())
        # Writing, unlike a map, tells of a full disk.
        for picture in results_ahead(read_pictures, files, decoding):
            content = picture.tobytes()
            out.write(content)
            digest.update(content)
            bar.update()
        out.flush()
        os.fsync(out.fileno())
    return {"shape": list(shape), "sha256": digest.hexdigest()}


def _open(copy: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return the arrays of a copy, of these shapes, after a check of every byte."""
    remedy = f"delete {shown(copy)} to have it made again"
    try:
        index = json.loads(read_small(copy / _INDEX, _MOST_INDEX))
        parts = {part: (tuple(index["parts"][part]["shape"]), str(index["parts"][part]["sha256"])) for part in expected}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise StimulusError(f"{shown(copy / _INDEX)}: not the index of a copy of images: {remedy}") from None
    arrays = {}
    for part, shape in expected.items():
        file = copy / f"{part}.npy"
        try:
            if parts[part] != (shape, _checksum(file)):
                told = (
                    "the bytes differ from their checksum" if parts[part][0] == shape else f"expected {shape} in the index"
                )
                raise StimulusError(f"{shown(file)}: {told}: {remedy}")
            arrays[part] = torch.from_numpy(_mapped(file, shape))
        # Numpy raises whatever it stumbles over in the head of a damaged file.
        except Exception as reason:
            if isinstance(reason, StimulusError):
                raise
            message = str(reason).split("\n")[0]
            raise StimulusError(f"{shown(file)}: cannot be read ({shown(message)}): {remedy}") from None
    return arrays


def _mapped(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of a file, mapped; its head says nothing that is believed."""
    with open_regular(file) as content:
        np.lib.format.read_magic(content)
        found, _, kind = np.lib.format.read_array_header_1_0(content)
        start, size = content.tell(), os.fstat(content.fileno()).st_size
        if found != shape or kind != np.uint8:
            raise ValueError(f"expected {shape} of uint8, got {found} of {kind}")
        if size != start + int(np.prod(shape)):
            raise ValueError(f"{size} bytes, expected {start + int(np.prod(shape))}")
        return mapped(content, start, shape) if shape[0] else np.empty(shape, np.uint8)


def _checksum(file: Path) -> str:
    digest = hashlib.sha256()
    with (
        open_regular(file) as content,
        tqdm(
            total=file.stat().st_size, desc=f"checking {file.name}", unit="B", unit_scale=True, leave=False, delay=2
        ) as bar,
    ):
        while block := content.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
