"""Made-up runs for tests of the report: rules with odd names, a skip pathway, feedback, a comparison that is not trusted."""

from pathlib import Path
from typing import Any

import numpy as np

import analysis
from analysis.schema import VARIABLES
from neurossl.store import Variable

POPULATIONS = ("retina", "V1", "V2", "V3")
FORWARD = ("retina->V1", "V1->V2", "V2->V3", "V1->V3")
TOP = ("V2->V3", "V1->V3")
"""Where the reference has the same objective: 1 by construction."""
NETWORK: dict[str, Any] = {
    "name": "skipping 8-8-8-8",
    "populations": [{"name": name, "neurons": [8], "input": name == "retina"} for name in POPULATIONS],
    "pathways": [
        *({"name": name, "kind": "feedforward", "plastic": True} for name in FORWARD),
        {"name": "V3=>V1", "kind": "feedback", "plastic": False},
    ],
}
ODD_NAMES = ("<script>alert(1)</script>", "$x$ & $\\alpha_3$", "α–β «rule»", "L" + "ong" * 39 + "er")
BESIDE = {name: value for name, value in {"ceiling": 0.95, "shuffled_cosine": 0.1}.items() if name in VARIABLES["alignment"]}
"""What a cosine is measured against, where it can be stored."""
MEASURES = ("cosine", "norm_ratio", *BESIDE, "trustworthy")


def write_made_up(path: Path, label: str, seed: int, *, events: int = 8, **about: Any) -> Path:
    """Store a run with alignment, readouts, losses and weights; its numbers follow from label and seed."""
    rng = np.random.default_rng([seed, *label.encode()])
    skill = 0.05 * (sum(label.encode()) % 5)
    manifest = {"rule": label, "label": label, "seed": seed, "protocol": "made up", "reference": "BP", "network": NETWORK}
    manifest |= {"needs": ["neuromodulator"], "objective": "x", "transport": "none"}
    manifest |= {"by_construction": list(TOP), "command": ["neurossl", "run", "my protocol.py", "--lr", "0.01"]}
    with analysis.TrajectoryWriter(path) as writer:
        writer.describe({**manifest, **about})
        for name in FORWARD:
            writer.declare("alignment", name, dict.fromkeys(MEASURES, Variable(())))
            writer.declare("weights", name, {"weight": Variable(("post", "pre"))})
        for name in POPULATIONS:
            writer.declare("performance", name, dict.fromkeys(("loss", "probe_accuracy"), Variable(())))
        for event in range(events):
            at = {"event": event, "time": 0.5 * event, "observers_seen": 100 * event}
            for place, name in enumerate(FORWARD):
                cosine = 1.0 if name in TOP else np.clip(0.9 - 0.3 * place + skill - 0.02 * event, -1, 1)
                values = {"cosine": cosine + 0.01 * rng.normal() * (cosine < 1), "norm_ratio": rng.uniform(0.5, 2)}
                values |= {**BESIDE, "trustworthy": float((event, place) != (3, 0))}
                if event:
                    writer.record("alignment", name, **at, values=values)
                writer.record("weights", name, **at, values={"weight": np.full((8, 8), 1 + 0.1 * event)})
            for place, name in enumerate(POPULATIONS):
                accuracy = 0.5 + (skill + 0.02 * event) * (place > 0) + 0.005 * rng.normal()
                writer.record("performance", name, **at, values={"loss": 1 / (1 + event), "probe_accuracy": accuracy})
        writer.close("finished", seconds=2.0)
    return path


def write_several(folder: Path, labels: tuple[str, ...], seeds: int) -> list[Path]:
    """Store the runs of several rules with several seeds."""
    return [
        write_made_up(folder / f"rule-{place}" / f"seed-{seed}", label, seed)
        for place, label in enumerate(labels)
        for seed in range(seeds)
    ]
