"""Input in unusual forms: each is what it says, or refused in one line with what would be right."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from neurossl import Population, Transfer
from neurossl.errors import NetworkError, NeurosslError, OptionError, StimulusError
from neurossl.stimuli import ImageSet, load_images
from neurossl.stimuli.datasets.catalogue import _DATASETS, register_dataset
from protocols.cli import main
from protocols.harness.options import options_of, parse
from protocols.harness.rules import choose_rules

PIXELS = np.zeros((8, 4, 4), np.uint8)


def pictures(folder: Path, count: int = 2) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("L", (4, 4), 40 * number).save(folder / f"{number}.png")


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("train_set", "Validation")])
def test_parts_by_another_name_are_not_learned_as_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for part in names:
        for name in ("a", "b"):
            pictures(tmp_path / part / name)
    with pytest.raises(StimulusError, match="these look like parts, not classes: rename"):
        load_images(f"folder:{tmp_path}")


def test_a_class_called_test_beside_others_is_a_class(tmp_path: Path) -> None:
    for name in ("Trains", "Tests"):
        pictures(tmp_path / name, 5)
    assert load_images(f"folder:{tmp_path}").classes == ("Tests", "Trains")


def test_16_bit_grey_that_is_transparent_is_black(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            picture = Image.fromarray(np.full((8, 8), 40_000, np.uint16))
            picture.save(tmp_path / name / f"{number}.png", **({"transparency": 40_000} if name == "a" else {}))
    images = load_images(f"folder:{tmp_path}")
    assert float(images.train[images.train_labels == 0].float().max()) == 0
    assert float(images.train[images.train_labels == 1].float().min()) > 100


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ImageSet.from_arrays(PIXELS, np.arange(8) % 2, std=[np.nan]), "expected a finite mean and std > 0"),
        (lambda: ImageSet.from_arrays(PIXELS, np.arange(8) % 2, mean=[np.inf]), "expected a finite mean and std > 0"),
        (lambda: ImageSet.from_arrays(PIXELS, np.arange(8) % 2, classes=["\x1b[31m", "b"]), "is no name of a class"),
        (lambda: ImageSet.from_arrays(PIXELS, np.arange(8) % 2, classes="ab"), "classes are a list of names"),
        (lambda: ImageSet.from_arrays(PIXELS, np.ma.masked_equal(np.arange(8) % 2, 1)), "a masked array"),
        (lambda: ImageSet.from_arrays(PIXELS, torch.zeros(8, dtype=torch.complex64)), "expected integers from 0"),
        (lambda: ImageSet.from_arrays(torch.zeros(8, 4, 4).to_sparse(), np.arange(8) % 2), "expected a dense tensor"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(make: Callable[[], ImageSet], says: str) -> None:
    with pytest.raises(StimulusError, match=says):
        make()


@pytest.mark.parametrize("kind", [np.uint16, np.uint32, np.uint64, np.int8])
def test_labels_of_any_integer_type_are_labels(kind: type[np.generic]) -> None:
    assert ImageSet.from_arrays(PIXELS, (np.arange(8) % 2).astype(kind)).classes == ("0", "1")


def test_a_data_set_of_ones_own_is_looked_at_before_it_is_learned_from() -> None:
    good = ImageSet.from_arrays(PIXELS, np.arange(8) % 2)
    from dataclasses import replace

    odd: dict[str, Callable[..., Any]] = {
        "labels": lambda request: replace(good, train_labels=good.train_labels + 5),
        "count": lambda request: replace(good, train_labels=good.train_labels[:1]),
        "pixels": lambda request: replace(good, train=good.train.float() * 255 + 255),
        "std": lambda request: replace(good, std=(0.0,)),
        "raises": lambda request: 1 / 0,
    }
    for name, function in odd.items():
        register_dataset(f"test-{name}")(function)
        try:
            with pytest.raises(StimulusError):
                load_images(f"test-{name}")
        finally:
            del _DATASETS[f"test-{name}"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("clapp++gap:lr=1e-400", "expected a number that is not rounded to 0"),
        ("clapp++gap:lr=1:lr=2", "option lr is given twice"),
        ("pc:rate=inf", "expected a finite number"),
        ("ff:threshold=nan", "expected a finite number"),
        ("clapp++:context=１", "context"),
    ],
)
def test_options_of_a_rule_are_numbers_as_options_are(rule: str, says: str) -> None:
    with pytest.raises(NeurosslError, match=says):
        choose_rules([rule])


@pytest.mark.parametrize("network", ["mlp:１０", "mlp:1_0", "vgg6:", "vgg6:1e-9"])
def test_sizes_of_a_network_are_plain_numbers(network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "compare_rules", "--tiny", "--network", network, "--out", str(tmp_path / "o")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_lists_have_no_empty_parts_and_options_a_kind_that_words_can_be() -> None:
    def listed(out: str, *, rules: list[str] | None = None) -> None: ...
    def chosen(out: str, *, x: Literal["a", "b"] = "a") -> None: ...
    def flags(out: str, *, x: list[bool] | None = None) -> None: ...
    def always(out: str, *, x: bool = True) -> None: ...
    def mistaken(out: str, *, x: "no such" = 1) -> None: ...  # type: ignore[valid-type,syntax]  # noqa: F722

    with pytest.raises(OptionError, match="there is an empty part"):
        parse(listed, ["--out", "x", "--rules", "clapp++gap,,bp"], "it")
    for run in (chosen, flags, always, mistaken):
        with pytest.raises(OptionError, match=r"parameter 'x'|an annotation that is no type"):
            options_of(run)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "ssl_credit_assignment", "--tiny", "--rate", "inf"],
        ["run", "ssl_credit_assignment", "--tiny", "--steps", "99999999999999999999"],
        ["run", "view_speed", "--batch", "1000000", "--size", "512"],
        ["run", "view_speed", "--tiny", "--repeats", "99999999999999999999"],
        ["run", "streaming_fixations", "--budget", "1000000000"],
        ["run", "streaming_fixations", "--tiny", "--fixation", "1e308"],
        ["run", "streaming_fixations", "--tiny", "--fixation", "5e-324"],
    ],
)
def test_what_would_never_end_is_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--out", str(tmp_path / "o")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "o").exists()


SCRIPTS = {
    "run = dict\n": "has no function run",
    "async def run(out):\n    pass\n": "has no function run",
    "def run(out):\n    yield 1\n": "has no function run",
    "def run(out, /):\n    pass\n": "positional-only",
    "def run(out, *, x: '1/0' = 1):\n    pass\n": "annotation that is no type",
    "class E(Exception):\n    def __str__(self):\n        raise ValueError\n\ndef run(out):\n    raise E\n": "cannot say",
}


@pytest.mark.parametrize("source", SCRIPTS)
def test_scripts_that_are_no_protocols_are_told_in_a_line(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(source)
    assert main(["run", str(tmp_path / "mine.py"), "--out", str(tmp_path / "o")]) in (1, 2)
    said = capsys.readouterr().err
    assert SCRIPTS[source] in said
    assert len(said.splitlines()) == 1


def test_a_script_that_hides_a_library_is_told_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("def run(out):\n    pass\n")
    (tmp_path / "jinja2.py").write_text("")
    assert main(["run", str(tmp_path / "mine.py"), "--out", str(tmp_path / "o")]) == 2
    assert "jinja2.py beside it hides the library 'jinja2': give it another name" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [">&-", "> /dev/full", "| true", "SOURCE_DATE_EPOCH", "matplotlibrc"])
def test_a_stdout_that_takes_nothing_and_an_odd_environment_end_no_work(how: str, tmp_path: Path) -> None:
    out, environment = tmp_path / "o", {**os.environ, "OMP_NUM_THREADS": "1"}
    if how == "SOURCE_DATE_EPOCH":
        environment["SOURCE_DATE_EPOCH"] = "nonsense"
    if how == "matplotlibrc":
        (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
        environment["MPLCONFIGDIR"] = str(tmp_path)
    redirected = how if how[0] in ">|" else ""
    command = f"{sys.executable} -m protocols.cli run compare_rules --tiny --rules bp --budget 2 --out {out} {redirected}"
    options: Any = {"capture_output": True, "text": True, "check": False, "env": environment}
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], **options)
    assert done.returncode == 0, done.stderr
    assert (out / "report.html").is_file()
    assert "Traceback" not in done.stderr


def test_reference_values_are_a_file_of_a_size_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(150_000_000))
    for name, says in (("pipe.npz", "cannot be read"), ("bomb.npz", "it unpacks to 1.2 GB")):
        assert main(["selftest", str(tmp_path / name)]) == 2
        assert says in capsys.readouterr().err


def test_a_transfer_function_of_ones_own_is_held_against_differences_when_a_population_is_made() -> None:
    class Saturating(Transfer):
        """z / (1 + z) of what is above 0."""

        def rho(self, drive: torch.Tensor) -> torch.Tensor:
            positive = drive.clamp(min=0)
            return positive / (1 + positive)

        def gated(self, credit: torch.Tensor, activity: torch.Tensor) -> torch.Tensor:
            return credit * torch.where(activity > 0, (1 - activity) ** 2, 0.0)

    class Ungated(Saturating):
        """The slope is forgotten."""

        def gated(self, credit: torch.Tensor, activity: torch.Tensor) -> torch.Tensor:
            return credit

    class Flat(Saturating):
        """Another shape."""

        def rho(self, drive: torch.Tensor) -> torch.Tensor:
            return drive.sum(1)

    assert Population("V1", 4, Saturating()).transfer.name == "Saturating"
    with pytest.raises(NetworkError, match=r"gated\(\) must be the credit times the slope of rho\(\)"):
        Population("V1", 4, Ungated())
    with pytest.raises(NetworkError, match="rho"):
        Population("V1", 4, Flat())
