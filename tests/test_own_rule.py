"""A user's own rule: the fifteen lines of the README, in a script outside the package, recorded and compared."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import analysis

README = Path(__file__).parents[1] / "README.md"


def readme_script() -> str:
    """Return the script that the README shows under "A rule of your own"."""
    section = README.read_text().split("## A rule of your own")[1]
    match = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert match is not None
    return match.group(1)


def test_the_rule_in_the_readme_takes_fifteen_lines() -> None:
    rule = re.search(r"(@register.*?)\n\n\n", readme_script(), re.DOTALL)
    assert rule is not None
    assert len(rule.group(1).splitlines()) <= 15


@pytest.mark.slow
def test_the_script_in_the_readme_runs_and_is_compared(tmp_path: Path) -> None:
    script = tmp_path / "my_rule.py"
    script.write_text(readme_script())
    command = [sys.executable, "-m", "protocols.cli", "run", str(script), "--out", str(tmp_path / "run"), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "run" / "results.json").read_text())["table"]
    assert len(table) == 2
    tree = analysis.open_trajectory(tmp_path / "run" / "variance" / "seed-0")
    assert tree.attrs["rule"] == "variance"
    assert tree["weights"].children
    assert bool(tree["alignment"]["cosine"].notnull().any())
