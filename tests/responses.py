"""Responses of known structure, as one array and as the tree of many runs."""

import numpy as np
import xarray as xr

IMAGES, VIEWS, CLASSES = 24, 2, 3


def labelled(values: np.ndarray, views: int = 1, classes: int = CLASSES, **attrs: str) -> xr.DataArray:
    """Return (stimuli, neurons) with identities: views of one image follow one another, classes alternate over images."""
    stimuli = np.arange(len(values))
    image = stimuli // views
    coords = {"stimulus": stimuli + 100, "image": ("stimulus", image), "label": ("stimulus", image % classes)}
    return xr.DataArray(values, coords, ("stimulus", "neuron"), "response", attrs)


def tree_of_runs(
    rules=("clapp", "bp"), seeds=(0, 1, 2), snapshots=(0, 50), neurons=(12, 8), noise=0.5, digest="abc", seed=0
) -> xr.DataTree:
    """Return the tree of many runs with responses of V1 and V2: non-negative, with classes, images and views.

    All runs share features of the images; a rule adds its own, and every run mixes them at random and adds noise per seed.
    """
    r = np.random.default_rng(seed)
    count = IMAGES * VIEWS
    image = np.arange(count) // VIEWS
    label = image % CLASSES
    common = r.normal(size=(CLASSES, 6))[label] + 0.7 * r.normal(size=(IMAGES, 6))[image]
    nodes = {}
    for population, size in zip(("V1", "V2"), neurons, strict=True):
        values = np.zeros((len(rules), len(seeds), len(snapshots), count, size), np.float32)
        for i in range(len(rules)):
            own = common + r.normal(size=(IMAGES, 6))[image]
            for j, k in np.ndindex(len(seeds), len(snapshots)):
                seen = own + noise * r.normal(size=(count, 6))
                values[i, j, k] = np.maximum(seen @ r.normal(size=(6, size)) + 1, 0)
        coords = {
            "rule": list(rules),
            "seed": list(seeds),
            "snapshot": list(snapshots),
            "observers_seen": ("snapshot", 32 * np.asarray(snapshots)),
            "label": ("stimulus", label),
            "image": ("stimulus", image),
            "stimulus": np.arange(count),
        }
        dims = ("rule", "seed", "snapshot", "stimulus", "neuron")
        nodes[f"/responses/{population}"] = xr.Dataset(
            {"response": (dims, values)}, coords, {"stimuli": digest, "name": population}
        )
    return xr.DataTree.from_dict(nodes)
