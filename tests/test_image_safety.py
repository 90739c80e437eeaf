"""Pictures and data sets that somebody else made: nothing is executed, nothing fills the memory, one line says why."""

import gzip
import hashlib
import io
import os
import pickle
import shutil
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_folder
from PIL import Image

from neurossl.errors import StimulusError
from neurossl.stimuli import load_images
from neurossl.stimuli.datasets.decoding import Decoding, read_picture
from neurossl.stimuli.datasets.pickled import read_batch


def unreadable(file: Path) -> str:
    with pytest.raises(StimulusError) as caught:
        read_picture(file, Decoding(8, 8))
    message = str(caught.value)
    assert str(file) in message
    assert message.isprintable()
    return message


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """Return a grey PNG of a size that may be a lie."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name ends in. Pillow would start Ghostscript, here a program that leaves a trace."""
    trace = tmp_path / "trace"
    (tmp_path / "bin").mkdir()
    for name in ("gs", "gswin64c", "convert"):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\ntouch {trace}\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for name in ("x.png", "x.jpg", "x.eps", "x.tif"):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read (none of JPEG, PNG" in unreadable(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["ICO", "TGA", "PCX", "PDF", "JPEG2000", "SGI"])
def test_other_formats_are_not_opened(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x", format=kind)
    (tmp_path / "x").rename(tmp_path / "x.png")
    assert "none of" in unreadable(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "MPO"])
def test_common_formats_are_opened_whatever_their_name(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "x", format=kind)
    (tmp_path / "x").rename(tmp_path / "x.png")
    assert np.abs(read_picture(tmp_path / "x.png", Decoding(8, 8))[:, 0, 0].astype(int) - [250, 0, 0]).max() < 6


def test_pictures_of_sizes_that_no_photograph_has_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    long = bytes(2 * 20_000_000)
    for width, height, rows in ((1, 20_000_000, long), (20_000_000, 1, long[: len(long) // 2 + 1]), (60_000, 60_000, b"")):
        file.write_bytes(png(width, height, rows))
        assert file.stat().st_size < 50_000
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            assert "cannot be read" in unreadable(file)
        assert time.perf_counter() - started < 0.5
    file.write_bytes(png(30_000, 100, bytes(100 * 30_001)))
    assert read_picture(file, Decoding(32, 32)).shape == (3, 32, 32), "a long one is no danger"
    file.write_bytes(png(1, 32_768, bytes(2 * 32_768)))
    with pytest.raises(StimulusError, match="1 x 32768 pixels are too narrow to cover 512 x 512"):
        read_picture(file, Decoding(512, 512))


def test_pictures_are_turned_as_their_exif_tag_says(tmp_path: Path) -> None:
    upright = np.zeros((8, 12, 3), np.uint8)
    upright[:4, :4] = 255
    for kind, tolerance in (("jpg", 40), ("png", 0), ("tif", 0), ("webp", 40)):
        for orientation, stored in (
            (1, upright),
            (2, upright[:, ::-1]),
            (3, upright[::-1, ::-1]),
            (4, upright[::-1]),
            (5, upright.swapaxes(0, 1)),
            (6, upright.swapaxes(0, 1)[::-1]),
            (7, upright.swapaxes(0, 1)[::-1, ::-1]),
            (8, upright.swapaxes(0, 1)[:, ::-1]),
        ):
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"x.{kind}", exif=exif, quality=100)
            seen = read_picture(tmp_path / f"x.{kind}", Decoding(8, 12)).transpose(1, 2, 0)
            assert np.abs(seen.astype(int) - upright).max() <= tolerance, (kind, orientation)


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    """Not the colour that is stored beneath, which nobody has ever seen."""
    file = tmp_path / "x.png"
    layer = np.full((8, 8, 4), 200, np.uint8)
    layer[:4, :, 3], layer[4:, :, 3] = 0, 255
    half = layer.copy()
    half[4:, :, 3] = 128
    for picture, lower in (
        (Image.fromarray(layer), 200),
        (Image.fromarray(half), 100),
        (Image.fromarray(layer).convert("LA"), 200),
        (Image.fromarray(layer).convert("PA"), 200),
    ):
        picture.save(file, format="TIFF" if picture.mode == "PA" else "PNG")
        for grey in (False, True):
            seen = read_picture(file, Decoding(8, 8, grey)).astype(int)
            assert (seen[:, :4] == 0).all(), picture.mode
            assert np.abs(seen[:, 4:] - lower).max() <= 2, picture.mode
    indexed = Image.fromarray((layer[..., 3] // 255).astype(np.uint8), "P")
    indexed.putpalette([200, 200, 200, 90, 90, 90])
    for kind in ("PNG", "GIF"):
        indexed.save(file, format=kind, transparency=0)
        seen = read_picture(file, Decoding(8, 8))
        assert (seen[:, :4] == 0).all()
        assert (seen[:, 4:] == 90).all()


class Trap:
    """An object whose pickle writes a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.trace), "w")


def cifar_batch(rng: np.random.Generator, count: int = 20) -> dict[str, Any]:
    labels = (np.arange(count) % 10).tolist()
    return {"data": rng.integers(0, 256, (count, 3072), np.uint8), "labels": labels, "filenames": ["a.png"] * count}


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """Return a batch as Python 2 pickled those that are distributed: strings of bytes, a module that numpy no longer has."""
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    shape = b"(K\x01M" + struct.pack("<H", len(pixels)) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    content = pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R" + shape + kind
    array += b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def test_batches_of_cifar10_are_read_without_calling_what_they_name(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    batch = cifar_batch(np.random.default_rng(0))
    as_distributed = python2_batch(batch["data"], batch["labels"])
    assert np.array_equal(pickle.loads(as_distributed, encoding="bytes")[b"data"], batch["data"]), "it is such a pickle"
    for packed in (as_distributed, pickle.dumps(batch, protocol=3), pickle.dumps(batch, protocol=4)):
        pixels, labels = read_batch(packed)
        assert np.array_equal(pixels, batch["data"])
        assert labels.tolist() == batch["labels"]
    for planted in (Trap(trace), batch | {"data": Trap(trace)}, batch | {"more": [Trap(trace)]}, [1, 2], {"data": 1}):
        for protocol in range(6):
            with pytest.raises(ValueError, match=r"^not a batch of images( |$)"):
                read_batch(pickle.dumps(planted, protocol=protocol))
    assert not trace.exists()
    # Four bytes ask for room for four thousand million remembered objects, eight for an array of a million million bytes.
    for bomb in (b"\x80\x04}r\xff\xff\xff\xff.", b"\x80\x05\x96" + struct.pack("<Q", 10**12) + b"."):
        with pytest.raises(ValueError, match="not a batch"):
            read_batch(bomb)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    rng = np.random.default_rng(0)
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        batch = cifar_batch(rng)
        packed = python2_batch(batch["data"], batch["labels"])
        (folder / name).write_bytes(packed)
        lists["test_list" if name == "test_batch" else "train_list"].append([name, hashlib.md5(packed).hexdigest()])
    for name, files in lists.items():
        monkeypatch.setattr(datasets.CIFAR10, name, files)


def test_cifar10_is_read_from_batches_of_python_or_binary_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    images = load_images("cifar10", data_dir=tmp_path)
    assert (len(images.train), len(images.test)) == (40, 20)
    assert images.classes[3] == "cat"
    assert images.train_labels[:12].tolist() == [*range(10), 0, 1]
    packed = (tmp_path / "cifar-10-batches-py" / "data_batch_2").read_bytes()
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(StimulusError, match="data_batch_2: the bytes differ from their checksum"):
        load_images("cifar10", data_dir=tmp_path)
    assert not (tmp_path / "trace").exists()
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(packed)
    binary = tmp_path / "binary" / "cifar-10-batches-bin"
    binary.mkdir(parents=True)
    parts = {"data_batch_1": slice(0, 20), "data_batch_2": slice(20, 40)}
    for name, rows in parts.items():
        content = torch.cat([images.train_labels[rows, None].byte(), images.train[rows].flatten(1)], 1)
        content.numpy().tofile(binary / f"{name}.bin")
    torch.cat([images.test_labels[:, None].byte(), images.test.flatten(1)], 1).numpy().tofile(binary / "test_batch.bin")
    other = load_images("cifar10", data_dir=tmp_path / "binary")
    assert torch.equal(other.train, images.train)
    assert torch.equal(other.test_labels, images.test_labels)
    assert other.digest == images.digest
    os.truncate(binary / "test_batch.bin", 3074)
    with pytest.raises(StimulusError, match=r"test_batch\.bin has 3074 bytes, expected a multiple of 3073"):
        load_images("cifar10", data_dir=tmp_path / "binary")


def write_mnist(root: Path, count: int = 12) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels, labels = np.full((count, 28, 28), 7, np.uint8), (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return raw


def test_old_copies_of_mnist_are_never_loaded(tmp_path: Path) -> None:
    """Torchvision would prefer them to the files of MNIST."""
    write_mnist(tmp_path)
    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    assert load_images("mnist", data_dir=tmp_path).train.unique().tolist() == [7]
    torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3).long()), processed / "training.pt")
    assert len(load_images("mnist", data_dir=tmp_path).train) == 12
    shutil.rmtree(tmp_path / "MNIST" / "raw")
    with pytest.raises(StimulusError, match="not found"):
        load_images("mnist", data_dir=tmp_path)
    assert not (tmp_path / "trace").exists()


def test_fetching_reads_nothing_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchvision fetches is then read as everything else is."""
    from torchvision import datasets

    processed = tmp_path / "MNIST" / "processed"
    processed.mkdir(parents=True)
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    monkeypatch.setattr(datasets.MNIST, "download", lambda bare: write_mnist(Path(bare.root)))
    assert len(load_images("mnist", data_dir=tmp_path, download=True).train) == 12
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (struct.pack(">IIII", 2051, 2**32 - 1, 2**16, 2**16), "has 9408 bytes of 4294967295 x 65536 x 65536 values"),
        (struct.pack(">IIII", 2051, 0, 28, 28), "has 9408 bytes of 0 x 28 x 28 values"),
        (struct.pack(">IIII", 2049, 12, 28, 28), "is not in the format"),
        (struct.pack(">IIII", 0x0D03, 12, 28, 28), "is not in the format"),
        (gzip.compress(b"", mtime=0)[:16].ljust(16), "is not in the format"),
    ],
)
def test_an_idx_file_is_as_large_as_it_says(tmp_path: Path, head: bytes, message: str) -> None:
    raw = write_mnist(tmp_path)
    file = raw / "train-images-idx3-ubyte"
    file.write_bytes(head + file.read_bytes()[16:])
    with pytest.raises(StimulusError, match=message):
        load_images("mnist", data_dir=tmp_path)


def test_files_of_terabytes_of_nothing_are_refused(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    (raw / "train-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 2**30, 28, 28))
    os.truncate(raw / "train-images-idx3-ubyte", 16 + 2**30 * 28 * 28)
    with pytest.raises(StimulusError, match=r"1073741824 entries need 841\.8 GB, .* GB of memory are free: remove it"):
        load_images("mnist", data_dir=tmp_path)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}_y.bin").write_bytes(b"\x01")
        (folder / f"{part}_X.bin").touch()
        os.truncate(folder / f"{part}_X.bin", 3 * 96 * 96 * 2**25)
    with pytest.raises(StimulusError, match=r"33554432 images need 927\.7 GB, .* GB of memory are free"):
        load_images("stl10", data_dir=tmp_path)


def test_pipes_in_the_place_of_data_are_refused_without_waiting(tmp_path: Path) -> None:
    raw = write_mnist(tmp_path)
    (raw / "t10k-labels-idx1-ubyte").unlink()
    os.mkfifo(raw / "t10k-labels-idx1-ubyte")
    with pytest.raises(StimulusError, match="not a regular file"):
        load_images("mnist", data_dir=tmp_path)
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    load_images(folder, cache=tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    for name in ("images.json", "train.npy"):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with pytest.raises(StimulusError, match=rf"{name}: .*delete"):
            load_images(folder, cache=tmp_path / "cache")
        (copy / name).unlink()
        (copy / name).write_bytes(content)


def test_a_cached_copy_says_nothing_that_is_believed(tmp_path: Path) -> None:
    """Index and checksums are right, the arrays are others: larger than memory, elsewhere, of objects, compressed."""
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    whole = load_images(folder, cache=tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    index, array = (copy / "images.json").read_text(), (copy / "train.npy").read_bytes()
    trapped = io.BytesIO()
    np.save(trapped, np.array([Trap(tmp_path / "trace")] * 3, object), allow_pickle=True)
    packed = io.BytesIO()
    np.savez_compressed(packed, np.zeros(10**7, np.uint8))
    huge = array.replace(b"(3, 3, 8, 8)", b"(9999999999,)")
    for content in (huge, trapped.getvalue(), packed.getvalue(), array[:-1], array + b"\0", b"", array[:20]):
        (copy / "train.npy").write_bytes(content)
        before, after = hashlib.sha256(array).hexdigest(), hashlib.sha256(content).hexdigest()
        (copy / "images.json").write_text(index.replace(before, after))
        with pytest.raises(StimulusError, match=r"train\.npy: cannot be read .*delete"):
            load_images(folder, cache=tmp_path / "cache")
    assert not (tmp_path / "trace").exists()
    (copy / "train.npy").write_bytes(array)
    for damaged in ("[" * 60000, index.replace("3,", "1e999,"), '{"parts": {"../../x": {}}}', index * 5000, "\0"):
        (copy / "images.json").write_text(damaged)
        with pytest.raises(
            StimulusError, match=r"images\.json: not the index of a copy of images: delete|train\.npy: expected"
        ):
            load_images(folder, cache=tmp_path / "cache")
    (copy / "images.json").write_text(index)
    assert torch.equal(load_images(folder, cache=tmp_path / "cache").train, whole.train)


def test_copies_are_made_under_names_that_nobody_can_prepare(tmp_path: Path) -> None:
    """A link in the place of an unfinished copy would lead what is written elsewhere."""
    folder = make_folder(tmp_path / "images", {"cat": (8, 8)})
    load_images(folder, cache=tmp_path / "cache")
    (copy,) = (tmp_path / "cache").iterdir()
    shutil.rmtree(copy)
    (tmp_path / "victim").mkdir()
    (tmp_path / "cache" / f".{copy.name}.unfinished-{os.getpid()}").symlink_to(tmp_path / "victim")
    load_images(folder, cache=tmp_path / "cache")
    assert copy.is_dir()
    assert not list((tmp_path / "victim").iterdir())
