"""The reference files of the self-test are what explicit loops compute, and every rule has some."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explicit import check, make
from explicit.cases import build, write

from neurossl.plasticity import RULES
from neurossl.selftest import check_file, shipped_files
from neurossl.selftest.run import TOLERANCE

PLANS = {plan.name: plan for plan in make.CASES}
PUBLISHED = 13
"""Files of another layout, from the published implementation: no loops here compute them."""


def meta_of(file: Path) -> dict[str, Any]:
    with np.load(file) as arrays:
        return dict(json.loads(str(arrays["meta"])))


@pytest.fixture(scope="module")
def explicit() -> dict[str, Path]:
    return {file.stem: file for file in shipped_files() if "network" in meta_of(file)}


def test_every_file_has_a_name_of_its_own() -> None:
    assert len(PLANS) == len(make.CASES)


def test_the_files_are_those_that_the_loops_compute_beside_the_published_ones(explicit: dict[str, Path]) -> None:
    assert set(explicit) == set(PLANS)
    assert len(shipped_files()) - len(explicit) == PUBLISHED


def test_the_loops_compute_what_the_files_say(explicit: dict[str, Path], tmp_path: Path) -> None:
    for name, plan in PLANS.items():
        with np.load(write(tmp_path, build(plan, make.RULES))) as computed, np.load(explicit[name]) as shipped:
            assert set(computed.files) == set(shipped.files), name
            assert str(computed["meta"]) == str(shipped["meta"]), name
            for key in set(computed.files) - {"meta"}:
                largest = max(1.0, float(np.abs(shipped[key]).max(initial=0)))
                np.testing.assert_allclose(
                    computed[key], shipped[key], rtol=0, atol=1e-12 * largest, err_msg=f"{name} {key}"
                )


def test_every_rule_has_a_file(explicit: dict[str, Path]) -> None:
    own = {name for name, factory in RULES.items() if factory.__module__.startswith("neurossl.")}
    assert {meta_of(file)["rule"] for file in explicit.values()} == own


def test_the_computed_files_are_small(explicit: dict[str, Path]) -> None:
    assert sum(file.stat().st_size for file in explicit.values()) < 1.6e6


def test_in_float32_every_file_agrees_with_room_for_another_processor_s_rounding() -> None:
    """A change far below the weights is lost in their last digit: its learning rate is then too low for the file."""
    outcomes = [check_file(file, torch.device("cpu"), torch.float32) for file in shipped_files()]
    assert len(outcomes) == len(PLANS) + PUBLISHED
    for outcome in outcomes:
        assert outcome.passed(TOLERANCE[torch.float32] / 2), outcome


def test_judges_that_share_no_code_with_the_loops_agree_with_the_small_files(explicit: dict[str, Path]) -> None:
    """Central differences of every weight; ``python -m explicit.check`` does so with the large files as well."""
    small = []
    for name, file in explicit.items():
        with np.load(file) as arrays:
            weights = sum(arrays[key].size for key in arrays.files if key.startswith("weight/"))
        if weights < 260:
            small.append(name)
    rules = {str(meta_of(explicit[name])["rule"]) for name in small}
    assert len(small) > 60
    assert len(rules) > 25
    for name in small:
        assert all(deviation < check.TOLERANCE for deviation in check.check(explicit[name])), name


@pytest.mark.parametrize("name", check.LIMITS)
def test_a_rule_is_another_one_in_the_limit(name: str) -> None:
    bound, deviation = check.LIMITS[name]
    assert deviation() < bound
