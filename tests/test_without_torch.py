"""What ``pip install neurossl`` gives: reading, analysing and reporting in an environment that has nothing else."""

import configparser
import os
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from analysis import TrajectoryWriter
from tests.stored import CONFIGURATION, declare, record

ROOT = Path(__file__).parents[1]
OF_SIMULATIONS = ("torch", "torchvision", "brian2", "sklearn", "tqdm", "safetensors")


def requirements() -> list[str]:
    configuration = configparser.RawConfigParser()
    configuration.read(ROOT / "setup.cfg")
    return configuration["options"]["install_requires"].split("\n")[1:]


def closure(lines: list[str]) -> dict[str, metadata.Distribution]:
    """Return the distributions that requirements stand for, with all that they require without extras."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = metadata.distribution(name)
        waiting += [Requirement(line) for line in found[name].requires or ()]
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with what setup.cfg requires and nothing else, made of what is installed here."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]
    place = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for distribution in closure(requirements()).values():
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (place / top).exists():
                (place / top).symlink_to(source)
    (place / "here.pth").write_text(f"{ROOT}\n")
    return python


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored") / "run"
    with TrajectoryWriter(folder) as writer:
        writer.describe({**CONFIGURATION, "label": "CLAPP"})
        declare(writer)
        for event in range(5):
            record(writer, event)
    return folder


def command(bare: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return subprocess.run(
        [str(bare), *map(str, words)], capture_output=True, text=True, env=environment, cwd=bare.parent, check=False
    )


@pytest.mark.slow
def test_an_environment_of_the_requirements_alone_has_no_library_of_simulations(bare: Path) -> None:
    for name in OF_SIMULATIONS:
        assert command(bare, "-c", f"import {name}").returncode != 0, name
    assert sys.prefix not in command(bare, "-c", "import numpy, sys; print(sys.prefix)").stdout


@pytest.mark.slow
def test_everything_that_reads_a_run_works_without_torch(bare: Path, run: Path, tmp_path: Path) -> None:
    for words in (
        ("list",),
        ("--help",),
        ("info", run),
        ("verify", run),
        ("export", run, tmp_path / "run.nc"),
        ("info", tmp_path / "run.nc"),
        ("report", run, "--out", tmp_path / "report.html"),
        ("compare", run, "--out", tmp_path / "compare.html"),
    ):
        done = command(bare, "-m", "protocols.cli", *words)
        assert (done.returncode, done.stderr) == (0, ""), (words, done.stderr)
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_every_function_of_the_analysis_package_is_there_without_torch(bare: Path, run: Path) -> None:
    code = f"""
import sys, analysis, xarray
names = [getattr(analysis, name) for name in analysis.__all__]
tree = analysis.open_trajectory({str(run)!r})
assert float(tree["alignment"]["cosine"].mean()) == float(tree["alignment"]["cosine"].mean())
assert xarray.open_datatree({str(run)!r}, engine="neurossl").attrs["rule"] == "clapp"
print(len(names))
"""
    done = command(bare, "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "library"),
    [(("run", "compare_rules", "--out", "x"), "torch"), (("rules",), "torch"), (("selftest",), "torch")],
)
def test_what_needs_torch_says_so_in_one_line(bare: Path, words: tuple[str, ...], library: str) -> None:
    done = command(bare, "-m", "protocols.cli", *words)
    said = f"neurossl: this needs {library}, which is not installed: pip install 'neurossl[simulate]'\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not (bare.parent / "x").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from neurossl import Simulation",
        "import neurossl; neurossl.mlp",
        "import analysis, numpy as np; z = np.eye(4); analysis.linear_probe(z, range(4), z, range(4))",
    ],
)
def test_in_python_too_the_error_names_the_remedy(bare: Path, code: str) -> None:
    done = command(bare, "-c", code)
    assert done.returncode == 1
    assert done.stderr.endswith("which is not installed: pip install 'neurossl[simulate]'\n")
    assert "MissingLibrary" in done.stderr.splitlines()[-1]


def test_requirements_name_every_library_that_reading_imports() -> None:
    known = closure(requirements())
    assert {"numpy", "scipy", "xarray", "netcdf4", "matplotlib", "jinja2"} <= known.keys()
    assert not {"torch", "brian2", "scikit-learn", "tqdm"} & known.keys()
    assert np.__version__ == known["numpy"].version
