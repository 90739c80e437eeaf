"""The table of deliberate mistakes fits the code, and the self-test notices some; all of them: `python tests/mutants.py`."""

import ast
from collections import Counter

import pytest
from mutants import NOTICED, PACKAGE, PASSED, TESTS, files_for, verdict
from mutations import MUTANTS, PREFIXES, Mutant
from mutations.base import ENGINE

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


@pytest.mark.parametrize("name", NAMED)
def test_the_selftest_notices(name: str) -> None:
    (mutant,) = (m for m in MUTANTS if str(m) == name)
    assert verdict(mutant, files=files_for(mutant.family)[:30]) == NOTICED


def test_a_copy_without_a_mistake_passes() -> None:
    same = Mutant("dfa", ENGINE + "projections.py", "return mean * area", "return area * mean", "none")
    assert verdict(same, files=files_for("dfa")[:30]) == PASSED
