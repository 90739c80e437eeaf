"""A run that goes on from its last checkpoint, or starts where there is none: resumable.py FOLDER RULE MOMENTS EVERY"""

import shutil
import sys
from pathlib import Path

import torch

from analysis import TrajectoryWriter
from neurossl import Checkpointer, Simulation, mlp
from neurossl.checkpoint import has_checkpoint
from neurossl.errors import NeurosslError
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.stimuli import FixationSequence, ViewPairs, WakeSleep, default_views, load_images


def learn(folder: Path, rule: str, moments: int, every: int) -> Simulation:
    """Learn, in the folder of the run; go on where a run was ended."""
    images = load_images("digits")
    data = images.train, images.train_labels, default_views(images)
    streams = {
        "ff": lambda: WakeSleep(*data, observers=8, moments=moments, seed=3, classes=10),
        "online": lambda: FixationSequence(*data, observers=8, moments=moments, seed=3),
    }
    stream = streams.get(rule, lambda: ViewPairs(*data, observers=8, moments=moments, seed=3))()
    recorders = [
        WeightRecorder(20, index=30),
        UpdateRecorder(25, keep=True, index=7),
        ActivityRecorder(30),
        PerformanceRecorder(20),
    ]
    supervised = rule in ("pc", "dfa")
    options = {"recorders": recorders, "checkpoints": Checkpointer(every=every)}
    name = "clapp++gap" if rule == "online" else rule
    if has_checkpoint(folder):
        store = TrajectoryWriter.reopen(folder)
        simulation = Simulation.from_checkpoint(folder, store=store, **options)
    else:
        shutil.rmtree(folder, ignore_errors=True)  # killed before there was anything to go on from
        store = TrajectoryWriter(folder)
        network = mlp(images.shape, [16, 12], 10 if supervised else None, normalisation="length" if rule == "ff" else None)
        simulation = Simulation(network, name, seed=5, store=store, **options)
    simulation.at(3.0)(lambda s: s.synapses.set(lr=5e-4))
    simulation.every(7.0)(lambda s: s.stimulate("V2", 0.01 * s.moment))
    with store:
        simulation.run(stream)
    return simulation


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        done = learn(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    except NeurosslError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
    print(done.moment)
