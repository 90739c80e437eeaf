"""The table of deliberate mistakes fits the code, and the self-test notices some; all of them: `python tests/mutants.py`."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutants import NONE, PACKAGE, TESTS, files_for, main
from mutations import MUTANTS, PREFIXES, Mutant

NAMED = (
    "dfa: pooled error summed over one side of the map, default pool",
    "scff: numbers of rows awake and asleep exchanged",
    "pc: one fixed-prediction step fewer",
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mistake_stands_once_in_its_file_and_is_valid(mutant: Mutant) -> None:
    source = (PACKAGE / mutant.file).read_text(encoding="utf-8")
    wrong = mutant.applied(source)
    assert ast.dump(ast.parse(wrong)) != ast.dump(ast.parse(source))


def test_mistakes_are_told_apart_by_what_they_are() -> None:
    assert [str(m) for m, n in Counter(map(str, MUTANTS)).items() if n > 1] == []


def test_every_family_has_ten_mistakes_reference_files_and_tests() -> None:
    counts = Counter(mutant.family for mutant in MUTANTS)
    assert min(counts.values()) >= 10
    assert set(counts) == set(PREFIXES) == set(TESTS)
    for family in counts:
        assert files_for(family)[0].stem.startswith(PREFIXES[family])
        assert all((PACKAGE.parent / "tests" / f"test_{name}.py").is_file() for name in TESTS[family])


def test_the_selftest_notices_the_named_ones_and_passes_without_a_mistake() -> None:
    command = [
        sys.executable,
        str(Path(__file__).parent / "mutants.py"),
        *(word for name in NAMED for word in ("--mistake", name)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()
    assert said[0] == f"survived  {NONE}"
    assert set(said[1:4]) == {f"noticed   {name}" for name in NAMED}


def test_a_mistake_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--mistake", "no such thing"])
    assert "no mistake has 'no such thing' in its line" in capsys.readouterr().err
