"""The README's code runs as it stands, from a folder of one's own, also where that has an analysis/ and a protocols/."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import analysis

README = Path(__file__).parents[1] / "README.md"


def block(heading: str) -> str:
    """Return the first block of Python under a heading of the README."""
    section = README.read_text().split(f"## {heading}")[1]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match.group(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder in which a user has packages of these names already."""
    for name in ("analysis", "protocols"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the one of the user')\n")
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(README.parent), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_rule_in_the_readme_is_the_one_that_is_tested() -> None:
    assert block("A rule of your own") == Path(__file__).with_name("readme_rule.py").read_text()
    assert block("A rule of two phases") == Path(__file__).with_name("readme_phases.py").read_text()


@pytest.mark.slow
def test_the_first_example_runs_beside_packages_of_the_same_names(folder: Path) -> None:
    script = folder / "mine.py"
    script.write_text(
        block("For those who write protocols").replace("moments=400", "moments=40").replace("at(100.0)", "at(10.0)")
    )
    run([sys.executable, "mine.py"], folder)
    tree = analysis.open_trajectory(folder / "run")
    assert tree.attrs["rule"] == "clapp++"
    assert tree["rates/V1"]["mean_rate"].size == 2
    about = json.loads((folder / "run" / "manifest.json").read_text())
    assert [entry["what"] for entry in about["interventions"]] == ["lesion"]
    assert about["interventions"][0]["pathway"] == "V2->V3"


@pytest.mark.slow
def test_the_rule_runs_and_is_compared_beside_packages_of_the_same_names(folder: Path) -> None:
    (folder / "my_rule.py").write_text(block("A rule of your own"))
    run([sys.executable, "-m", "neurossl.protocols.cli", "run", "my_rule.py", "--out", "compared", "--tiny"], folder)
    table = json.loads((folder / "compared" / "results.json").read_text())["table"]
    assert len(table) == 2
    tree = analysis.open_trajectory(folder / "compared" / "stay-or-leave" / "seed-0")
    assert tree.attrs["reference"] == "bp-clapp++"
    assert "lateral context" in tree.attrs["needs"]
