"""Runs that fail half way: the others are reported, and what a failed one had by then counts for nothing."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import analysis
from neurossl.errors import NeurosslError, StorageError
from protocols import (
    closer_is_better,
    compare_rules,
    image_benchmark,
    ssl_credit_assignment,
    streaming_fixations,
    theory_equivalence,
    update_alignment,
)

FEW: dict[str, Any] = {"transports": ["bp", "fa", "dfa", "pc"]}
PROTOCOLS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "closer_is_better": (closer_is_better.run, {**FEW, "networks": ["mlp:8-6-6"]}, "infonce-bp"),
    "compare_rules": (compare_rules.run, {"rules": ["clapp++gap", "bp"]}, "clapp++gap"),
    "image_benchmark": (image_benchmark.run, {"methods": ["clapp++", "random"], "rates": [1e-3]}, "clapp++"),
    "ssl_credit_assignment": (ssl_credit_assignment.run, {**FEW, "objectives": ["cross-entropy"]}, "cross-entropy-bp"),
    "streaming_fixations": (streaming_fixations.run, {}, "lateral"),
    "theory_equivalence": (theory_equivalence.run, {}, "fig3a/linear-lateral"),
    "update_alignment": (update_alignment.run, {"feedback": ["lateral", "direct"]}, "lateral"),
}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of parts of paths: runs whose path has one of them find the disk full after their first records."""
    parts: list[str] = []
    record = analysis.TrajectoryWriter.record

    def recorded(self: Any, kind: str, name: str, event: int, time: float, seen: int, values: Mapping[str, Any]) -> None:
        if event > 1 and any(part in str(self.path) for part in parts):
            raise StorageError(f"{self.path}: No space left on device")
        record(self, kind, name, event, time, seen, values)

    monkeypatch.setattr(analysis.TrajectoryWriter, "record", recorded)
    return parts


@pytest.mark.slow
@pytest.mark.parametrize("which", ["one seed", "all seeds"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_others_are_reported_and_a_failed_run_counts_for_nothing(
    tmp_path: Path, full: list[str], protocol: str, which: str
) -> None:
    run, options, victim = PROTOCOLS[protocol]
    out = tmp_path / "out"
    full.append(f"{victim}/seed-1" if which == "one seed" else f"{victim}/seed-")
    with pytest.raises(NeurosslError, match=r"could not finish; .*No space left on device.*add --resume"):
        run(str(out), tiny=True, seeds=2, workers=1, **options)
    comparison = analysis.open_comparison([out])
    failed = [run for run in comparison.runs if run.about["state"] == "failed"]
    assert failed
    labels = {run.label for run in failed}
    results = analysis.read_results(out)
    assert results.table
    counted = analysis.open_comparison([out]).finished()
    assert len(counted.runs) + len(failed) == len(comparison.runs)
    assert {len(counted.rules.get(label, [])) for label in labels} == {1 if which == "one seed" else 0}
    said = json.dumps(results.table) + " ".join(results.sentences)
    assert "NaN" not in said
    page = (out / "report.html").read_text()
    assert "runs have not finished" in page
    assert "No space left on device" in page
    full.clear()
    assert run(str(out), tiny=True, seeds=2, workers=1, resume=True, **options).table
    assert len(analysis.open_comparison([out]).finished().runs) == len(comparison.runs)
