"""How close is CLAPP to backprop while it learns, and what if a pathway is cut half way? A page to copy and change.

A small network looks twice at each of 32 handwritten digits per moment; its update is compared with backprop's, the share
of active neurons is recorded by three lines of our own, and V1->V2 is lesioned in the middle. All of it is in OUT/run.
"""

from neurossl.analysis import Results, TrajectoryWriter, open_trajectory, text_table
from torch import Tensor

from neurossl import PerformanceRecorder, Simulation, Synapses, UpdateRecorder, WeightRecorder, make_rule, mlp
from neurossl.recorders import Observation, Recorder
from neurossl.stimuli import ViewPairs, default_views, load_images


def active(now: Observation) -> dict[str, dict[str, Tensor]]:
    """Return the share of active neurons of each population: any function of what there is can be recorded."""
    return {name: {"active": (now.seen[name] > 0).float().mean()} for name in now.network.order}


def run(out: str, *, moments: int = 200, seed: int = 0, tiny: bool = False) -> Results:
    """Let a network learn from pairs of views, record it, and show how close it stays to backprop.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    moments : int
        Moments of learning.
    seed : int
        Of weights and views.
    tiny : bool
        A few moments, for tests.
    """
    moments = min(moments, 8) if tiny else moments
    images, rule = load_images("digits"), make_rule("clapp++gap")
    stream = ViewPairs(images.train, images.train_labels, default_views(images), observers=32, moments=moments, seed=seed)
    recorders = [WeightRecorder(every=50), UpdateRecorder(every=2, reference=rule.reference()), PerformanceRecorder(every=2)]
    recorders.append(Recorder(active, kind="gates", every=2))
    with TrajectoryWriter(f"{out}/run") as store:
        about = {"protocol": "first_steps", "label": "CLAPP", "dataset": "digits"}
        network, common = mlp(images.shape, [64, 64, 64]), {"seed": seed, "recorders": recorders, "about": about}
        simulation = Simulation(network, rule, Synapses(lr=3e-4), store=store, **common)  # type: ignore[arg-type]
        simulation.at(moments / 2 * stream[0].duration)(lambda simulation: simulation.lesion("V1->V2"))
        simulation.run(stream, report="text")
    run = open_trajectory(f"{out}/run")
    cosine = run["alignment"]["cosine"].mean("event")
    table = [
        {"pathway": str(name), "cosine with backprop": float(cosine.sel(pathway=name))} for name in cosine["pathway"].values
    ]
    print(text_table(table))
    note = f"cosines: BP of {run.attrs['reference_objective']}"
    print(note)
    results = Results("first_steps", "How close is CLAPP to backprop?", table, notes=[note])
    results.save(out)
    return results
