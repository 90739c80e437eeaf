"""How does the alignment with backprop depend on who predicts? Lateral, direct, optimal and random fixed feedback.

Figures 3b and 4c of arXiv 2601.21683: in a network of dense populations and in the six-layer convolutional network, the
cosine of the local with the backprop-derived update of every pathway, while learning goes on, for four kinds of feedback:

    lateral    c is the population's own response to the other view, B learns by its own loss   (CLAPP, CLAPP++)
    direct     c is the response of the top                                                     (DFB)
    optimal    direct, and B is taught to make the local credit equal to backprop's             (a control, not local)
    random     direct, and B stays as it was drawn below the top

Both networks score the top as backprop's objective does: one cell at the top of the maps. As in figure 3b, f is the softplus
and the encoder learns slowly: backprop's credit is a moving target for predictions that are taught to match it.
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
from protocols.harness.folder import finish, unfinished
from protocols.harness.learning import (
    Run,
    Setting,
    check_memory,
    choose_workers,
    enough_images,
    indexed,
    learn_all,
    network_for,
    positive,
    start,
)

FEEDBACK = {"lateral": "clapp++", "direct": "clapp++dfb", "optimal": "clapp++optimal", "random": "clapp++fixed"}
NETWORKS = ("mlp:128-128-128-128-128-128", "vgg6:0.0625")
TINY_NETWORKS = ("mlp:24-24-24", "conv:4M-6M-6")
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
    networks: Sequence[str] | None = None,
    feedback: Sequence[str] = tuple(FEEDBACK),
    contrast: str = "softplus",
    rates: Sequence[float] = (5e-5, 1e-3),
    seeds: int | None = None,
    budget: int | None = None,
    observers: int | None = None,
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
    networks : sequence of str, optional
        As conv:32-64M-64-128M or vgg6; mlp:128-128-128-128-128-128 and vgg6:0.0625 by default.
    feedback : sequence of str
        Out of lateral, direct, optimal, random.
    contrast : str
        f of the loss: softplus, hinge, linear or phyll.
    rates : sequence of float
        Learning rates of AdamW, of the feedforward and of the feedback weights.
    seeds : int, optional
        Number of seeds, 0, 1, ...; 5 by default.
    budget : int, optional
        Moments of learning per run; 600 by default.
    observers : int, optional
        Objects per moment; 64 by default.
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
    if unknown or not feedback or len(set(feedback)) < len(feedback):
        raise OptionError(
            f"feedback: expected different ones of {', '.join(FEEDBACK)}, got {', '.join(unknown or feedback) or 'none'}"
        )
    described = list(networks if networks is not None else TINY_NETWORKS if tiny else NETWORKS)
    if not described or len(set(described)) < len(described):
        raise OptionError(f"networks: expected one or more different ones, got {', '.join(described) or 'none'}")
    if len(rates) != 2 or not all(0 < rate < 1 for rate in rates):
        raise OptionError(
            "rates: expected two between 0 and 1, of the feedforward and of the feedback weights, such as 5e-5,1e-3; got "
            + (",".join(f"{rate:g}" for rate in rates) or "none")
        )
    count = positive("seeds", seeds if seeds is not None else 1 if tiny else 5, 1000)
    moments = positive("budget", budget if budget is not None else 12 if tiny else 600)
    per_moment = positive("observers", observers if observers is not None else 16 if tiny else 64)
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    enough_images(images, per_moment)
    common = Setting(
        dataset=dataset,
        network="",
        budget=moments,
        observers=per_moment,
        device=chosen_device,
        records=4 if tiny else 24,
        probe_images=(200, 100) if tiny else (2000, 1000),
    )
    learning = contrast, (rates[0], rates[1])
    planned = {network: _runs(network, feedback, count, *learning) for network in described}
    for network, runs in planned.items():
        for one in runs:
            built = network_for(one.rule, images, network)
            if len(built.order) < 2:
                raise OptionError(f"networks: {network} has no population below the top whose alignment could be measured")
            check_memory(built)
    folder = Path(out)
    every = [one for runs in planned.values() for one in runs]
    asked = {"networks": described, "feedback": list(feedback), "contrast": contrast, "rates": list(rates)}
    options = {**asdict(common), **asked, "seeds": count}
    start(folder, "update_alignment", options, every)
    problems: dict[str, str] = {}
    with indexed(folder, "update_alignment", options, every):
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
    if problems:
        raise unfinished(problems, len(every), "runs", folder)
    comparison = analysis.open_comparison([folder])
    return finish(folder, _results(comparison, described, feedback, options), comparison)


def _runs(network: str, feedback: Sequence[str], seeds: int, contrast: str, rates: tuple[float, float]) -> list[Run]:
    """Return the runs of one network."""
    place = network.replace(":", "-")
    made = []
    for name in feedback:
        for seed in range(seeds):
            rule = make_rule(FEEDBACK[name], contrast=contrast, pool="spatial, global top")
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
            pathways, events = cosines["pathway"].values.tolist(), cosines["event"].values
            top = comparison.rules[label][0].populations[-1]
            below = cosines.sel(pathway=[p for p in pathways if not p.endswith(f"->{top}")])
            late = events > 0.5 * events.max()
            record = dict(where)
            for depth, pathway in enumerate(pathways, 1):
                values = _mean(cosines.sel(event=events[late], pathway=[pathway])).values
                analysis.put(record, f"cosine, {pathway}", values)
                layers.append(analysis.put({**where, "layer": depth, "pathway": pathway}, "cosine", values))
            for which, kept in zip(HALVES, (~late, late), strict=True):
                halves[network, name, which] = _mean(below.sel(event=events[kept]))
                analysis.put(record, f"{BELOW_TOP}, {which}", halves[network, name, which].values)
            record["comparisons trusted"] = float(below.notnull().mean())
            for some in np.array_split(events, min(STAGES, len(events))):
                seen = {**where, "observers seen": float(some.mean()) * options["observers"]}
                course.append(analysis.put(seen, "cosine", _mean(below.sel(event=some)).values))
            table.append(_with_readouts(record, comparison, label))
    return analysis.Results(
        "update_alignment",
        "Who predicts? Alignment with backprop for four kinds of feedback",
        table,
        [_order(halves, network, feedback, which) for network in networks for which in HALVES],
        CHARTS,
        {"layers": layers, "over training": course},
        options=options,
    )


def _with_readouts(record: Record, comparison: analysis.Comparison, label: str) -> Record:
    """Add what a linear readout finds at the top and over all populations, and how much of it came with learning."""
    accuracies = comparison.accuracies(label)
    names = [name for name in comparison.rules[label][0].populations if name in accuracies]
    if names:
        gains = [accuracies[name]["final"] - accuracies[name]["initial"] for name in names]
        analysis.put(record, f"linear probe accuracy of the top, {names[-1]}", accuracies[names[-1]]["final"])
        analysis.put(record, "its change by learning", gains[-1])
        analysis.put(record, "change of the mean over all populations by learning", np.mean(gains, 0))
    return record


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


def _mean(cosines: xr.DataArray) -> xr.DataArray:
    """Return the mean per seed, (seed,): over the trusted moments of every pathway, then over pathways."""
    return cosines.mean("event").mean("pathway")


def _order(halves: Mapping[tuple[str, str, str], xr.DataArray], network: str, feedback: Sequence[str], which: str) -> str:
    """Say in which order the kinds of feedback align below the top, and which neighbours seeds tell apart."""
    found = {name: halves[network, name, which] for name in feedback}
    mine = {name: values for name, values in found.items() if bool(values.notnull().any())}
    said = f"{network}, {which} of learning: "
    if not mine:
        return f"{said}no comparison with backprop can be trusted."
    order = sorted(mine, key=lambda name: -float(mine[name].mean()))
    values = ", ".join(f"{name} {analysis.estimate(mine[name].values)}" for name in order)
    said += f"mean cosine below the top, from the best: {values}"
    if len(mine) < len(found):
        said += f"; none that can be trusted: {', '.join(name for name in found if name not in mine)}"
    if len(order) == 1 or mine[order[0]].sizes["seed"] == 1:
        return f"{said}."
    gaps = {f"{one} - {other}": analysis.estimate((mine[one] - mine[other]).values) for one, other in pairwise(order)}
    told = [f"{pair} {gap}{'' if gap.excludes_zero else ' (not told apart)'}" for pair, gap in gaps.items()]
    return f"{said}; paired by seed, {', '.join(told)}."


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
        y_range=(-1.05, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="Mean over the pathways below the top, over parts of learning.",
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
        y_range=(-1.05, 1.05),
        errors="bars: 95 % interval over seeds (Student's t)",
        text="The top learns by the same loss as backprop, so its cosine is 1 in all conditions.",
    ),
)
