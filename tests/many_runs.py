"""A made-up tree of many runs, as `analysis.open_runs` returns them, with accuracies and alignments that are known."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

POPULATIONS = ["V1", "V2", "V3"]
PATHWAYS = ["retina->V1", "V1->V2", "V2->V3", "V3=>V1"]


def made_up(
    closeness: dict[str, float],
    gain: dict[str, float],
    seeds: Sequence[int] = (0, 1, 2, 3),
    noise: float = 0.01,
    generator: int = 0,
) -> xr.DataTree:
    """Return a tree in which each rule has a closeness and a gain, the same in all populations but for noise.

    Rules whose name begins with ``bp`` are backprop: their own references, closeness 1 by construction. The others are local
    and have the reference "Backprop", the label of ``bp``; their closeness into the top population is 1 by construction.
    """
    rng = np.random.default_rng(generator)
    rules, events = list(gain), [0, 10, 20]
    backprop = np.array([rule.startswith("bp") for rule in rules])
    about = {
        "label": ("rule", ["Backprop" if rule == "bp" else rule.upper() for rule in rules]),
        "reference": ("rule", np.where(backprop, "", "Backprop")),
        "transport": ("rule", np.where(backprop, "backprop", "none: own dendrite")),
        "rule": rules,
        "seed": list(seeds),
    }
    shape = (len(rules), len(seeds), len(events))
    accuracy = 0.6 + noise * rng.normal(size=(1, len(seeds), 1, len(POPULATIONS))) + np.zeros((*shape, len(POPULATIONS)))
    for place, rule in enumerate(rules):
        accuracy[place, :, 1:] += gain[rule] + noise * rng.normal(size=(len(seeds), 1, len(POPULATIONS)))
    accuracy[:, :, 1] = np.nan  # read out at the start and the end alone
    pixels = np.full((*shape, 1), np.nan)
    pixels[:, :, 0] = 0.5
    cosine = np.zeros((*shape, len(PATHWAYS)))
    for place, rule in enumerate(rules):
        cosine[place] = closeness.get(rule, 1.0) + noise * rng.normal(size=cosine.shape[1:])
    own = np.zeros((len(rules), len(PATHWAYS)), bool)
    own[backprop] = True
    own[:, 2] = True
    cosine = np.where(own[:, None, None, :], 1.0, cosine)
    cosine[:, :, 0] = np.nan
    dims = ("rule", "seed", "event")
    performance = xr.Dataset(
        {"probe_accuracy": ((*dims, "population"), np.concatenate([pixels, accuracy], -1))},
        {**about, "event": events, "population": ["retina", *POPULATIONS]},
    )
    alignment = xr.Dataset(
        {
            "cosine": ((*dims, "pathway"), cosine),
            "trustworthy": ((*dims, "pathway"), np.where(np.isnan(cosine), np.nan, 1.0)),
        },
        {**about, "event": events, "pathway": PATHWAYS, "by_construction": (("rule", "pathway"), own)},
    )
    return xr.DataTree.from_dict({"/performance": performance, "/alignment": alignment})


def selected(tree: xr.DataTree, **labels: object) -> xr.DataTree:
    """Return a tree with a part of its labels."""
    return xr.DataTree.from_dict(
        {
            node.path: node.to_dataset(inherit=False).sel({d: v for d, v in labels.items() if d in node.dims})
            for node in tree.subtree
        }
    )
