"""Runs with chosen events, accuracies and cosines, for tests of what was tried and gave a wrong answer once."""

from pathlib import Path
from typing import Any

import numpy as np

import analysis
from neurossl.store import Variable

DEEP = {
    "populations": [{"name": "retina", "input": True}, {"name": "V1"}, {"name": "V2"}],
    "pathways": [
        {"name": "retina->V1", "kind": "feedforward"},
        {"name": "V1->V2", "kind": "feedforward"},
        {"name": "V2=>V1", "kind": "feedback", "plastic": True},
        {"name": "V2=>V2", "kind": "feedback", "plastic": False},
    ],
}


def stored(
    path: Path,
    seed: int = 0,
    events: Any = (0, 10, 20),
    accuracy: Any = lambda event: 0.5 + event / 100,
    cosine: Any = lambda event: 0.4,
    end: str | None = "finished",
    observers: int = 8,
    trust: bool = True,
    **about: Any,
) -> Path:
    """Store a run with chosen events, accuracies and cosines; ``end=None`` leaves it as it is when its process is killed."""
    writer = analysis.TrajectoryWriter(path)
    writer.describe({"rule": "clapp", "label": "CLAPP", "seed": seed, "network": DEEP, "reference": "BP", **about})
    names = [p["name"] for p in (about.get("network", DEEP) or DEEP)["pathways"]]
    measures = ["cosine", "norm_ratio", *(["trustworthy"] if trust else [])]
    for name in names:
        writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        writer.declare("alignment", name, dict.fromkeys(measures, Variable(())))
    writer.declare("performance", "V1", dict.fromkeys(("probe_accuracy", "loss"), Variable(())))
    for event in events:
        at = {"event": event, "time": event * 0.5, "observers_seen": event * observers}
        for name in names:
            if event == 0 or "V2=>V2" not in name:
                writer.record("weights", name, **at, values={"weight": np.full((2, 3), 1.0 + event / 10)})
            if event and "=>" not in name:
                found = {"cosine": cosine(event), "norm_ratio": 2.0, "trustworthy": True}
                writer.record("alignment", name, **at, values={key: found[key] for key in measures})
        values = {"probe_accuracy": accuracy(event), "loss": 1 / (1 + event)}
        writer.record("performance", "V1", **at, values=values)
    if end is not None:
        writer.close(end, seconds=1.0)
    else:
        writer.flush() if hasattr(writer, "flush") else writer.close("interrupted")
    return path
