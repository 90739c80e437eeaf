"""How does the alignment with backprop depend on who predicts? Lateral, direct, optimal and random fixed feedback.

Figures 3b and 4c of arXiv 2601.21683: in a network of dense populations and in the six-layer convolutional network, the
cosine of the local with the backprop-derived update of every pathway, while learning goes on, for four kinds of feedback:

    lateral    c is the population's own response to the other view, B learns by its own loss   (CLAPP, CLAPP++)
    direct     c is the response of the top                                                     (DFB)
    optimal    direct, and B is taught to make the local credit equal to backprop's             (a control, not local)
    random     direct, and B stays as it was drawn below the top

Both networks score the top as backprop's objective does: one cell at the top of the maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

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
RATES = (3e-4, 3e-3)
LATE = 0.5
"""The alignment of the last half of the records is what the table shows."""


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    networks: Sequence[str] = ("mlp:128-128-128-128-128-128", "vgg6:0.0625"),
    feedback: Sequence[str] = tuple(FEEDBACK),
    seeds: int = 3,
    budget: int = 240,
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
    planned = {network: _runs(network, feedback, seeds) for network in networks}
    for network, runs in planned.items():
        for one in runs:
            check_memory(network_for(one.rule, images, network))
    folder = Path(out)
    every = [one for runs in planned.values() for one in runs]
    options = {**asdict(common), "networks": list(networks), "feedback": list(feedback), "seeds": seeds}
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


def _runs(network: str, feedback: Sequence[str], seeds: int) -> list[Run]:
    """Return the runs of one network."""
    kind = _kind(network)
    place = network.replace(":", "-")
    pools = {} if kind == "mlp" else {"pool": "spatial, global top"}
    made = []
    for name in feedback:
        for seed in range(seeds):
            rule = make_rule(FEEDBACK[name][kind], **pools)
            path = f"{place}/{name}/seed-{seed}"
            label = _label(network, name)
            made.append(Run("update_alignment", name, label, rule, seed, RATES, path, rule.reference()))
    return made


def _label(network: str, feedback: str) -> str:
    return f"{network}, {feedback}"


def _results(
    comparison: analysis.Comparison, networks: Sequence[str], feedback: Sequence[str], options: Mapping[str, Any]
) -> analysis.Results:
    """Return the table, one record per network and kind of feedback, and the cosines by layer."""
    table: list[Record] = []
    layers: list[Record] = []
    for network in networks:
        for name in feedback:
            record: Record = {"network": network, "feedback": name}
            for depth, (pathway, values) in enumerate(_late_cosines(comparison, _label(network, name)).items(), 1):
                analysis.put(record, f"cosine, {pathway}", values)
                entry = {"network": network, "feedback": name, "layer": depth, "pathway": pathway}
                layers.append(analysis.put(entry, "cosine", values))
            accuracies = comparison.accuracies(_label(network, name))
            tops = [p for p in accuracies if p != comparison.runs[0].input]
            if tops:
                analysis.put(record, f"linear probe accuracy of the top, {tops[-1]}", accuracies[tops[-1]]["final"])
            table.append(record)
    chart = analysis.Chart(
        "Cosine of local and backprop-derived updates by layer, in the last half of learning",
        "layer",
        "cosine",
        "layer (1: from the retina)",
        "cosine with backprop",
        series="feedback",
        panel="network",
        data="layers",
        levels={"no alignment": 0.0},
        errors="bars: 95 % interval over seeds (Student's t)",
        text="The top learns by the same loss as backprop, so its cosine is 1 in all conditions.",
    )
    return analysis.Results(
        "update_alignment",
        "Who predicts? Alignment with backprop for four kinds of feedback",
        table,
        _sentences(layers, networks, feedback),
        [chart],
        {"layers": layers},
        options=options,
    )


def _late_cosines(comparison: analysis.Comparison, label: str) -> dict[str, list[float]]:
    """Return, per feedforward pathway, the trusted cosines of every seed averaged over the last half of learning."""
    found: dict[str, list[float]] = {}
    for run in comparison.rules[label]:
        cosine = run.scalars("alignment", "cosine")
        if cosine is None:
            continue
        late = cosine.where(cosine["event"] > (1 - LATE) * float(cosine["event"].max()), drop=True)
        for pathway in run.pathways:
            if pathway in late["pathway"].values:
                values = late.sel(pathway=pathway).values
                values = values[np.isfinite(values)]
                found.setdefault(pathway, []).append(float(values.mean()) if values.size else float("nan"))
    return found


def _sentences(layers: Sequence[Record], networks: Sequence[str], feedback: Sequence[str]) -> list[str]:
    """Say in which order the kinds of feedback align below the top."""
    said = []
    for network in networks:
        depth = max((r["layer"] for r in layers if r["network"] == network), default=0)
        means = {}
        for name in feedback:
            mine = [r["cosine (mean)"] for r in layers if (r["network"], r["feedback"]) == (network, name)]
            known = [c for c in mine[: depth - 1] if c is not None]
            if known:
                means[name] = sum(known) / len(known)
        order = sorted(means, key=lambda name: -means[name])
        said.append(
            f"{network}: mean cosine below the top, from the best: " + ", ".join(f"{n} {means[n]:.2f}" for n in order) + "."
        )
    return said
