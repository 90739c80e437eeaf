"""What an animal has experienced, read from its stored run."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from analysis.runs_found import StoredRun


@dataclass(frozen=True)
class Life:
    """One animal.

    Attributes
    ----------
    seed : int
    scores : Dataset
        score (snapshot, population) and saccade (snapshot); time is the end of the fixation, s.
    tests : DataArray, (snapshot, population)
        Probability that a fixation on an object never seen scores above a saccade.
    synapse : Dataset
        What one synapse has seen, (snapshot,).
    moved : dict of str to (float, float)
        How far the weights of every feedforward pathway went in each half of life, ``|W(t2) - W(t1)| / |W(0)|``.
    """

    seed: int
    scores: xr.Dataset
    tests: xr.DataArray
    synapse: xr.Dataset
    moved: dict[str, tuple[float, float]]

    @classmethod
    def read(cls, run: StoredRun) -> "Life":
        """Return the life that a finished run has stored."""
        tree = run.tree
        (synapse,) = tree["synapse"].children.values()
        return cls(
            seed=int(run.about["seed"]),
            scores=tree["scores/fixations"].to_dataset().load(),
            tests=tree["separation/test_objects"].to_dataset()["probability"].load(),
            synapse=synapse.to_dataset().load(),
            moved=_moved(run),
        )

    @property
    def populations(self) -> list[str]:
        """Populations, in the order of the network."""
        return [str(name) for name in self.tests["population"].values]

    def separation(self, population: str, at: int = -1) -> float:
        """Return how well scores separated fixations from saccades in a test, the last by default."""
        return float(self.tests.sel(population=population)[at])

    def mean_score(self, population: str, saccade: bool, after: float, until: float) -> float:
        """Return the mean score of the fixations, or of those after saccades, in an interval of time (s); NaN for none."""
        time = self.scores["time"].values
        inside = (time > after) & (time <= until) & (self.scores["saccade"].values == saccade)
        found = self.scores["score"].sel(population=population).values[inside]
        return float(found.mean()) if found.size else float("nan")


def _moved(run: StoredRun) -> dict[str, tuple[float, float]]:
    found = {}
    for node in run.tree["weights"].children.values():
        group = node.to_dataset()
        name = str(group.attrs["pathway"])
        if name in run.pathways:
            weight = group["weight"].values.astype(np.float64)
            middle = int(np.argmin(np.abs(group["snapshot"].values - group["snapshot"].values[-1] / 2)))
            size = np.linalg.norm(weight[0])
            first, second = weight[middle] - weight[0], weight[-1] - weight[middle]
            found[name] = float(np.linalg.norm(first) / size), float(np.linalg.norm(second) / size)
    return {name: found[name] for name in run.pathways if name in found}
