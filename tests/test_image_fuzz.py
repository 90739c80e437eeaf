"""Damaged pictures, data sets and folders, at least 300 of each: read, or refused in one line and in no time."""

import hashlib
import io
import os
import random
import shutil
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import make_folder
from PIL import Image
from test_image_safety import write_cifar10, write_mnist

from neurossl.errors import NeurosslError
from neurossl.stimuli import load_images
from neurossl.stimuli.datasets.decoding import Decoding, read_picture
from neurossl.stimuli.datasets.pickled import read_batch


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return content with some bytes changed, lost or repeated."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 3, 20])):
        place, length = draw.randrange(len(changed) + 1), draw.choice([1, 2, 4, 64])
        what = draw.randrange(4)
        if what == 0:
            changed[place : place + length] = draw.randbytes(length)
        elif what == 1:
            del changed[place : place + length]
        elif what == 2:
            changed[place:place] = changed[place : place + length]
        else:
            changed[place : place + length] = draw.choice([b"\xff", b"\0"]) * length
    return bytes(changed) if draw.random() < 0.9 else bytes(changed[: draw.randrange(len(changed) + 1)])


def survives(load: Callable[[], object]) -> bool:
    """Return whether damaged data are refused, in one line; they may be read, but not raise anything else, nor take long."""
    started = time.perf_counter()
    message = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load()
    except NeurosslError as reason:
        message = str(reason)
    assert message.isprintable(), "one line"
    assert time.perf_counter() - started < 5
    return bool(message)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_damaged_pictures_are_read_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    draw = random.Random(kind)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = io.BytesIO()
    picture.save(packed, format=kind, **({"exif": exif} if kind in ("PNG", "JPEG", "TIFF", "WEBP") else {}))
    file = tmp_path / "x.png"
    refusals = 0
    for _ in range(300):
        file.write_bytes(damaged(packed.getvalue(), draw))
        refusals += survives(lambda: read_picture(file, Decoding(8, 8)))
    assert refusals > 10


@pytest.mark.slow
def test_damaged_data_sets_are_read_or_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST, STL-10, CIFAR-10 without its checksums, copies with theirs put right."""
    draw = random.Random(1)
    raw = write_mnist(tmp_path)
    write_cifar10(tmp_path, monkeypatch)
    refusals = 0
    for _ in range(300):
        file = draw.choice(sorted(raw.iterdir()))
        whole = file.read_bytes()
        file.write_bytes(damaged(whole[:16], draw) + whole[16:] if draw.random() < 0.7 else damaged(whole, draw))
        refusals += survives(lambda: load_images("mnist", data_dir=tmp_path))
        file.write_bytes(whole)
    batch = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
    for _ in range(600):
        packed = damaged(batch[:300], draw) + batch[300:-600] + damaged(batch[-600:], draw)
        with suppress(ValueError):
            read_batch(packed)
            continue
        refusals += 1
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    load_images(folder, cache=tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    index, array = (copy / "images.json").read_bytes(), (copy / "train.npy").read_bytes()
    for _ in range(300):
        content = damaged(array[:128], draw) + array[128:] if draw.random() < 0.7 else array
        said = index.replace(hashlib.sha256(array).hexdigest().encode(), hashlib.sha256(content).hexdigest().encode())
        (copy / "train.npy").write_bytes(content)
        (copy / "images.json").write_bytes(said if content != array else damaged(index, draw))
        refusals += survives(lambda: load_images(folder, cache=tmp_path / "cache"))
    assert refusals > 800


@pytest.mark.slow
def test_disordered_folders_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    """Files, folders, links, loops, pipes and names of any kind, put anywhere."""
    draw = random.Random(2)
    refusals = 0
    for number in range(300):
        folder = make_folder(tmp_path / str(number), {"cat": (8, 8), "dog": (8, 8)}, per_class=2)
        for _ in range(draw.choice([1, 2, 5])):
            places = sorted(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())
            if not places:
                break
            place = draw.choice([folder, *places])
            name = draw.choice(
                ["cat", "dog", "train", "test", "val", "x.png", ".x", "unlabeled", os.fsdecode(b"\xff"), "\n"]
            )
            target = place / name
            what = draw.randrange(6)
            if what == 0 and place != folder:
                shutil.rmtree(place)
            elif not os.path.lexists(target):
                if what in (0, 1):
                    target.write_bytes(draw.randbytes(50))
                elif what == 2:
                    target.mkdir()
                elif what == 3:
                    target.symlink_to(draw.choice([".", "..", "cat", "../cat", "../..", "x.png", "/dev/zero"]))
                elif what == 4:
                    os.mkfifo(target)
                else:
                    Image.new("RGB", (8, 8)).save(place / "new.png")
        scheme = draw.choice(["folder", "stream"])
        refusals += survives(lambda f=folder, s=scheme: load_images(f"{s}:{f}", size=8))  # type: ignore[misc]
        shutil.rmtree(folder)
    assert 50 < refusals < 290
