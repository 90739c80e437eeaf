"""A run whose writer is gone is not running for ever."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from stored import make_weights

from analysis import compact, describe, manifest, open_trajectory
from analysis.sealed import seal
from neurossl.errors import OptionError
from neurossl.process import ProcessId

ago = timedelta


def claiming(run: Path, **members: Any) -> Path:
    """Let a run say that it is running, with these members; None takes one away."""
    about = json.loads((run / "manifest.json").read_text())
    told = {k: (datetime.now(UTC) - v).isoformat() if isinstance(v, timedelta) else v for k, v in members.items()}
    about = {**about, "state": "running", **told}
    kept = {name: value for name, value in about.items() if value is not None and name not in ("check", "segments", "ended")}
    (run / "manifest.json").write_bytes(seal(kept, indent=2))
    return run


HERE, ELSEWHERE = ProcessId.current().describe(), {"host": "elsewhere", "pid": 1, "started": "x"}
UNTOLD = {**HERE, "started": ""}


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ({"process": HERE, "last_sign_of_life": ago(days=9)}, "running"),
        ({"process": {**HERE, "started": "another"}, "last_sign_of_life": ago(seconds=1)}, "died"),
        ({"process": ELSEWHERE, "last_sign_of_life": ago(minutes=4)}, "running"),
        ({"process": ELSEWHERE, "last_sign_of_life": ago(minutes=6)}, "died"),
        ({"process": ELSEWHERE, "last_sign_of_life": "2020-01-01T00:00:00"}, "died"),
        ({"process": ELSEWHERE, "last_sign_of_life": None, "started": ago(hours=1)}, "died"),
        ({"process": UNTOLD, "last_sign_of_life": ago(minutes=1)}, "running"),
        ({"process": UNTOLD, "last_sign_of_life": ago(minutes=6)}, "died"),
        ({"process": None, "last_sign_of_life": ago(minutes=1)}, "running"),
        ({"process": None, "last_sign_of_life": ago(minutes=6)}, "died"),
    ],
)
def test_a_run_is_taken_for_dead_when_its_writer_is(tmp_path: Path, members: dict[str, Any], state: str) -> None:
    run = claiming(make_weights(tmp_path / "run", 2), **members)
    assert manifest(run)["state"] == state
    assert open_trajectory(run).attrs["state"] == state
    assert f"{state} run" in describe(run)
    if state == "running":
        with pytest.raises(OptionError, match="is running"):
            compact(run)
    else:
        assert "life" in manifest(run)["reason"]
        compact(run)


@pytest.mark.parametrize("said", [None, "yesterday", ago(days=-900)], ids=["nothing", "no time", "a time to come"])
@pytest.mark.parametrize("process", [None, ELSEWHERE])
def test_where_no_time_is_told_that_of_the_files_counts(tmp_path: Path, said: str | timedelta | None, process: Any) -> None:
    run = claiming(make_weights(tmp_path / "run", 2), process=process, last_sign_of_life=said, started=None)
    assert manifest(run)["state"] == "running"
    for name in ("manifest.json", "segments.jsonl"):
        os.utime(run / name, (time.time() - 3600,) * 2)
    assert manifest(run)["state"] == "died"
