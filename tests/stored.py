"""Runs that tests of trajectories store, and processes of their own that store them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from analysis import TrajectoryWriter
from neurossl.store import Variable

CONFIGURATION = {
    "protocol": "compare_rules",
    "rule": "clapp",
    "objective": "contrastive",
    "needs": ["neuromodulator"],
    "reference": None,
    "seed": 3,
    "dataset": "digits",
    "network": {
        "populations": [{"name": "retina", "shape": [8, 8], "transfer": "identity"}, {"name": "V1", "shape": [5]}],
        "pathways": [{"name": "retina->V1", "kind": "feedforward", "shape": [5, 4], "plastic": True, "synapses": 20}],
    },
}
INDEX = np.array([3, 7, 19])
DENSE, CONVOLUTION, INDEXED, FEEDBACK = "retina->V1", "V1->V2", "V2->V3", "V3=>V2"


def snapshot(name: str, event: int, *shape: int) -> np.ndarray:
    """Return what the layer looks like at an event: the same every time it is asked for."""
    return np.random.default_rng([event, *name.encode()]).standard_normal(shape).astype(np.float32)


def declare(writer: TrajectoryWriter) -> None:
    writer.declare("weights", DENSE, {"weight": Variable(("post", "pre")), "bias": Variable(("post",))})
    writer.declare("weights", CONVOLUTION, {"weight": Variable(("post", "pre", "ky", "kx"))}, attrs={"stride": 2})
    writer.declare(
        "weights",
        INDEXED,
        {"weight": Variable(("synapse",))},
        coords={"synapse": ("synapse", INDEX), "post": ("synapse", INDEX // 4), "pre": ("synapse", INDEX % 4)},
    )
    writer.declare("updates", FEEDBACK, {"update": Variable(("post", "pre")), "reference_update": Variable(("post", "pre"))})
    writer.declare("alignment", DENSE, {"cosine": Variable(()), "trustworthy": Variable(())})
    writer.declare("alignment", FEEDBACK, {"cosine": Variable(()), "angle": Variable(())})
    writer.declare("activity", "V1", {"mean": Variable(())})
    writer.declare("performance", "retina", {"probe_accuracy": Variable(())})
    writer.declare("performance", "V1", {"loss": Variable(()), "probe_accuracy": Variable(())})


def record(writer: TrajectoryWriter, event: int) -> None:
    """Record the weights at every event, updates and alignment at every second, performance at every third."""
    moment = (event, event * 0.25, event * 16)
    writer.record("weights", DENSE, *moment, {"weight": snapshot(DENSE, event, 5, 4), "bias": snapshot("bias", event, 5)})
    writer.record("weights", CONVOLUTION, *moment, {"weight": snapshot(CONVOLUTION, event, 6, 5, 3, 2)})
    writer.record("weights", INDEXED, *moment, {"weight": snapshot(INDEXED, event, 3)})
    if event % 2 == 0:
        updates = {"update": snapshot("local", event, 5, 4), "reference_update": snapshot("global", event, 5, 4)}
        writer.record("updates", FEEDBACK, *moment, updates)
        writer.record("alignment", DENSE, *moment, {"cosine": event / 10, "trustworthy": event > 0})
        writer.record("alignment", FEEDBACK, *moment, {"cosine": -event / 10, "angle": 90.0 + event})
    if event % 3 == 0:
        writer.record("activity", "V1", *moment, {"mean": float(event)})
        writer.record("performance", "retina", *moment, {"probe_accuracy": 0.5})
        writer.record("performance", "V1", *moment, {"loss": 2.0 - event / 10, "probe_accuracy": event / 10})


def make_run(path: Path, events: int = 10, segment_records: int = 10) -> Path:
    with TrajectoryWriter(path, segment_records=segment_records) as writer:
        writer.describe(CONFIGURATION)
        declare(writer)
        for event in range(events):
            record(writer, event)
        writer.close(seconds=1.5)
    return path


def make_weights(path: Path, events: int, shape: tuple[int, ...] = (5, 4), **options: float) -> Path:
    """Make a run of one pathway, by default with one segment for each event."""
    with TrajectoryWriter(path, **{"segment_records": 1, **options}) as writer:
        writer.describe(CONFIGURATION)
        writer.declare("weights", DENSE, {"weight": Variable(("post", "pre")[: len(shape)])})
        for event in range(events):
            writer.record("weights", DENSE, event, event, event, {"weight": snapshot(DENSE, event, *shape)})
    return path


def python(script: str, *arguments: object) -> subprocess.Popen:
    """Start a process that can use everything in this file."""
    prelude = f"import itertools, json, os, shutil, signal, sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    prelude += "import analysis, analysis.exporter, analysis.journal\nfrom analysis import *\n"
    prelude += "from neurossl.errors import *\nfrom neurossl.store import Variable\nfrom stored import *\n"
    command = [sys.executable, "-c", prelude + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
