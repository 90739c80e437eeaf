"""How does the alignment with backprop depend on who predicts? Lateral, direct, optimal and random fixed feedback.

Figures 3b and 4c of arXiv 2601.21683: in a network of dense populations and in the six-layer convolutional network, the
cosine of the local with the backprop-derived update of every pathway, while learning goes on, for four kinds of feedback:

    lateral    c is the population's own response to the other view, B learns by its own loss   (CLAPP, CLAPP++)
    direct     c is the response of the top                                                     (DFB)
    optimal    direct, and B is taught to make the local credit equal to backprop's             (a control, not local)
    random     direct, and B stays as it was drawn below the top

Both networks score the top as backprop's objective does: one cell at the top of the maps. As in figure 3b, f is the softplus
and the encoder learns slowly: backprop's credit is a moving target for predictions that are taught to match it, and with a
hinge the credit jumps whenever a margin is met.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import analysis
from analysis.results import Record
from neurossl.device import choose_device
from neurossl.errors import OptionError
from neurossl.plasticity import make_rule
from neurossl.stimuli import load_images
from protocols.learning import (
    Run,
    Setting,
    check_memory,
    choose_workers,
    learn_all,
    network_for,
    positive,
    start,
    write_index,
)
from protocols.notebook import finish, unfinished

FEEDBACK = {
    "lateral": {"mlp": "clapp", "maps": "clapp++"},
    "direct": {"mlp": "clapp-dfb", "maps": "clapp++dfb"},
    "optimal": {"mlp": "clapp-optimal", "maps": "clapp++optimal"},
    "random": {"mlp": "clapp-fixed", "maps": "clapp++fixed"},
}
HALVES = ("first half", "last half")
STAGES = 8
"""Parts of learning over which the course of alignment is averaged."""
BELOW_TOP = "cosine below the top"


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    networks: Sequence[str] = ("mlp:128-128-128-128-128-128", "vgg6:0.0625"),
    feedback: Sequence[str] = tuple(FEEDBACK),
    contrast: str = "softplus",
    rates: Sequence[float] = (5e-5, 1e-3),
    seeds: int = 5,
    budget: int = 600,
    observers: int = 64,
    device: str = "auto",
    workers: int | None = None,
    tiny: bool = False,
) -> analysis.Results:
    """Follow the alignment of local with backprop-derived updates over training, for four kinds of feedback.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    dataset : str
        digits (embedded), photographs (embedded), mnist, fashion_mnist, cifar10, stl10, tiny_imagenet or folder:PATH.
    data_dir : str, optional
        Where the data set of torchvision is.
    download : bool
        Fetch it if it is not there.
    networks : sequence of str
        As mlp:128-128-128-128, conv:32-64M-64-128M, vgg6 or vgg6:0.25.
    feedback : sequence of str
        Out of lateral, direct, optimal, random.
    contrast : str
        f of the loss: softplus, hinge, linear or phyll.
    rates : sequence of float
        Learning rates of AdamW, of the feedforward and of the feedback weights.
    seeds : int
        Number of seeds, 0, 1, ...
    budget : int
        Moments of learning per run.
    observers : int
        Objects per moment.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Runs side by side; by default one per core on a CPU.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Results

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    unknown = [f for f in feedback if f not in FEEDBACK]
    if unknown or not feedback or not networks:
        raise OptionError(
            f"feedback: expected one or more of {', '.join(FEEDBACK)}, got {', '.join(unknown or feedback) or 'none'}"
        )
    if len(rates) != 2 or not all(0 < rate < 1 for rate in rates):
        raise OptionError(
            "rates: expected two between 0 and 1, of the feedforward and of the feedback weights, such as 5e-5,1e-3; got "
            + (",".join(f"{rate:g}" for rate in rates) or "none")
        )
    positive("seeds", seeds, 1000)
    positive("budget", budget)
    positive("observers", observers)
    if tiny:
        networks, seeds, budget, observers = ("mlp:24-24-24", "conv:4M-6M-6"), 1, 12, 16
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    common = Setting(
        dataset=dataset,
        network="",
        budget=budget,
        observers=observers,
        device=chosen_device,
        records=4 if tiny else 24,
        probe_images=(200, 100) if tiny else (2000, 1000),
    )
    learning = contrast, (rates[0], rates[1])
    planned = {network: _runs(network, feedback, seeds, *learning) for network in networks}
    for network, runs in planned.items():
        for one in runs:
            check_memory(network_for(one.rule, images, network))
    folder = Path(out)
    every = [one for runs in planned.values() for one in runs]
    asked = {"networks": list(networks), "feedback": list(feedback), "contrast": contrast, "rates": list(rates)}
    options = {**asdict(common), **asked, "seeds": seeds}
    start(folder, "update_alignment", options, every)
    problems: dict[str, str] = {}
    for network, runs in planned.items():
        outcomes = learn_all(
            runs,
            folder=folder,
            setting=replace(common, network=network),
            images=images,
            workers=processes,
            interrupted=f"interrupted; what was recorded is kept in {folder}",
        )
        problems |= {o.job.path: o.problem for o in outcomes if o.problem}
    write_index(folder, "update_alignment", options, every)
    if problems:
        raise unfinished(problems, len(every), "runs", folder)
    comparison = analysis.open_comparison([folder])
    return finish(folder, _results(comparison, networks, feedback, options), comparison)


def _kind(network: str) -> str:
    return "mlp" if network.startswith("mlp") else "maps"


def _runs(network: str, feedback: Sequence[str], seeds: int, contrast: str, rates: tuple[float, float]) -> list[Run]:
    """Return the runs of one network."""
    kind = _kind(network)
    place = network.replace(":", "-")
    pools = {} if kind == "mlp" else {"pool": "spatial, global top"}
    made = []
    for name in feedback:
        for seed in range(seeds):
            rule = make_rule(FEEDBACK[name][kind], contrast=contrast, **pools)
            path = f"{place}/{name}/seed-{seed}"
            label = _label(network, name)
            made.append(Run("update_alignment", name, label, rule, seed, rates, path, rule.reference()))
    return made


def _label(network: str, feedback: str) -> str:
    return f"{network}, {feedback}"


def _results(
    comparison: analysis.Comparison, networks: Sequence[str], feedback: Sequence[str], options: Mapping[str, Any]
) -> analysis.Results:
    """Return the table, one record per network and kind of feedback, and the cosines by layer and over training."""
    table: list[Record] = []
    layers: list[Record] = []
    course: list[Record] = []
    halves: dict[tuple[str, str, str], xr.DataArray] = {}
    for network in networks:
        for name in feedback:
            where: Record = {"network": network, "feedback": name}
            label = _label(network, name)
            cosines = _cosines(comparison, label)
            half = cosines["event"] > 0.5 * float(cosines["event"].max())
            late = cosines.where(half).mean("event")
            below = cosines.isel(pathway=slice(0, -1)).mean("pathway")
            record = dict(where)
            for depth, pathway in enumerate(cosines["pathway"].values.tolist(), 1):
                values = late.sel(pathway=pathway).values
                analysis.put(record, f"cosine, {pathway}", values)
                layers.append(analysis.put({**where, "layer": depth, "pathway": pathway}, "cosine", values))
            for which, kept in zip(HALVES, (~half, half), strict=True):
                halves[network, name, which] = below.where(kept).mean("event")
                analysis.put(record, f"{BELOW_TOP}, {which}", halves[network, name, which].values)
            for some in np.array_split(below["event"].values, min(STAGES, below.sizes["event"])):
                seen = {**where, "observers seen": float(some.mean()) * options["observers"]}
                course.append(analysis.put(seen, "cosine", below.sel(event=some).mean("event").values))
            accuracies = comparison.accuracies(label)
            tops = [p for p in accuracies if p != comparison.runs[0].input]
            if tops:
                analysis.put(record, f"linear probe accuracy of the top, {tops[-1]}", accuracies[tops[-1]]["final"])
            table.append(record)
    return analysis.Results(
        "update_alignment",
        "Who predicts? Alignment with backprop for four kinds of feedback",
        table,
        [_order(halves, network, feedback, which) for network in networks for which in HALVES],
        CHARTS,
        {"layers": layers, "over training": course},
        options=options,
    )


def _cosines(comparison: analysis.Comparison, label: str) -> xr.DataArray:
    """Return the trusted cosines of every seed with backprop, (seed, event, feedforward pathway)."""
    runs = comparison.rules[label]
    found = [
        cosine.assign_coords(seed=int(run.about["seed"]))
        for run in runs
        if (cosine := run.scalars("alignment", "cosine")) is not None
    ]
    stacked = xr.concat(found, dim="seed")
    pathways = [p for p in runs[0].pathways if p in stacked["pathway"].values]
    return stacked.sel(pathway=pathways).transpose("seed", "event", "pathway")


def _order(halves: Mapping[tuple[str, str, str], xr.DataArray], network: str, feedback: Sequence[str], which: str) -> str:
    """Say in which order the kinds of feedback align below the top, and which neighbours seeds tell apart."""
    mine = {name: halves[network, name, which] for name in feedback}
    order = sorted(mine, key=lambda name: -float(mine[name].mean()))
    values = ", ".join(f"{name} {analysis.estimate(mine[name].values)}" for name in order)
    said = f"{network}, {which} of learning: mean cosine below the top, from the best: {values}"
    gaps = {f"{one} - {next_}": analysis.estimate((mine[one] - mine[next_]).values) for one, next_ in pairwise(order)}
    told = [f"{which} {gap}{'' if gap.excludes_zero else ' (not told apart)'}" for which, gap in gaps.items()]
    several = mine[order[0]].sizes["seed"] > 1
    return f"{said}; paired by seed, {', '.join(told)}." if told and several else f"{said}."


CHARTS = (
    analysis.Chart(
        "Alignment with backprop below the top, over training",
        "observers seen",
        "cosine",
        "observers seen",
        "cosine with backprop",
        series="feedback",
        panel="network",
        data="over training",
        levels={"no alignment": 0.0},
        y_range=(-0.6, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="Mean over the pathways below the top and over an eighth of learning.",
    ),
    analysis.Chart(
        "Alignment with backprop by layer, last half of learning",
        "layer",
        "cosine",
        "layer (1: from the retina)",
        "cosine with backprop",
        series="feedback",
        panel="network",
        data="layers",
        levels={"no alignment": 0.0},
        y_range=(-0.6, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="The top learns by the same loss as backprop, so its cosine is 1 in all conditions.",
    ),
)
