"""How close is each local rule to backprop, and does it buy a better representation? (the main job)

Every rule learns in the same network, from the same initial feedforward weights and the same views of the same images, for
the same number of observations. Recorded: how well each proposed update is aligned with the backprop-derived one of the
same objective, the weights, the activity, and what a linear readout finds in every population before and after learning.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import analysis
from neurossl.device import choose_device
from neurossl.errors import OptionError, StimulusError
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
from neurossl.stimuli import load_images
from protocols.harness.folder import telling_what_is_stored, unfinished
from protocols.harness.learning import (
    Run,
    Setting,
    check_memory,
    choose_seeds,
    choose_workers,
    default_network,
    enough_images,
    indexed,
    learn_all,
    network_for,
    positive,
    start,
    stream_of,
)
from protocols.harness.parallel import Outcome

DEFAULT_RULES = ("clapp", "clapp-dfb", "ff", "dfa", "pc", "bp-clapp", "bp")
LABELS = {
    "clapp": "CLAPP (lateral)",
    "clapp-dfb": "CLAPP (direct feedback)",
    "clapp++": "CLAPP++",
    "clapp++dfb": "CLAPP++DFB",
    "clapp++both": "CLAPP++both",
    "clapp++gap": "CLAPP++ without spatial dependence",
    "clapp-fixed": "CLAPP (random fixed feedback)",
    "clapp++fixed": "CLAPP++DFB (random fixed feedback)",
    "clapp-optimal": "CLAPP (feedback taught by BP)",
    "clapp++optimal": "CLAPP++DFB (feedback taught by BP)",
    "ff": "FF (label in the image)",
    "ff-hybrid": "FF (hybrid negatives)",
    "dfa": "DFA, supervised",
    "fa": "FA, supervised",
    "pc": "PC, supervised",
    "bp-clapp": "BP-CLAPP",
    "bp-infonce": "BP-InfoNCE",
    "bp": "BP, supervised",
}
CONTRASTIVE_RATES, SUPERVISED_RATES, GOODNESS_RATES = (3e-4, 3e-3), (1e-3, 1e-3), (3e-3, 3e-3)
RATES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("clapp", "clapp-dfb", "clapp-fixed", "clapp-optimal", "bp-clapp"), CONTRASTIVE_RATES),
    **dict.fromkeys(("clapp++", "clapp++dfb", "clapp++both", "clapp++gap"), CONTRASTIVE_RATES),
    **dict.fromkeys(("clapp++fixed", "clapp++optimal", "bp-clapp++"), CONTRASTIVE_RATES),
    **dict.fromkeys(("ff", "ff-hybrid", "bp-ff", "bp"), GOODNESS_RATES),
}
"""Learning rates of AdamW, of the feedforward and of the prediction weights, where they differ from `SUPERVISED_RATES`:
the best of a small grid on the digits. Prediction weights that learn ten times faster keep up with what they predict;
direct feedback and backprop of the contrastive top profit most."""
OPTIONS: dict[str, dict[str, Any]] = {"pc": {"steps": 6, "rate": 0.05}, "ipc": {"steps": 6, "rate": 0.05}}
"""Options of rules that differ from their defaults: short settling in small steps, which the budget of time asks for."""


def run(
    out: str,
    *,
    dataset: str = "digits",
    data_dir: str | None = None,
    download: bool = False,
    rules: Sequence[str] = DEFAULT_RULES,
    seeds: int | None = None,
    seed: int | None = None,
    budget: int | None = None,
    observers: int = 128,
    network: str | None = None,
    lr: float | None = None,
    device: str = "auto",
    workers: int | None = None,
    resume: bool = False,
    tiny: bool = False,
) -> analysis.Comparison:
    """Compare plasticity rules with backprop on the same images, network and budget.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    dataset : str
        digits (embedded), photographs (embedded), mnist, fashion_mnist, cifar10, stl10, tiny_imagenet or folder:PATH
        (train/ and test/ or val/ of class folders).
    data_dir : str, optional
        Where the data set of torchvision is.
    download : bool
        Fetch it if it is not there.
    rules : sequence of str
        Names of rules.
    seeds : int, optional
        Number of seeds, 0, 1, ...; 3 by default.
    seed : int, optional
        Run this one seed alone.
    budget : int, optional
        Moments of learning per run; each shows so many observers an object twice.
    observers : int
        Objects per moment.
    network : str, optional
        mlp:256-256-256-256, conv:32-64M-64-128M, vgg6 or vgg6:0.25.
    lr : float, optional
        Learning rate of every rule, instead of the tuned ones.
    device : str
        auto, cpu or cuda.
    workers : int, optional
        Runs side by side; by default one per core on a CPU.
    resume : bool
        Keep the finished runs of an interrupted comparison with the same options and do the rest.
    tiny : bool
        A few seconds, for tests.

    Returns
    -------
    analysis.Comparison

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    chosen_seeds = choose_seeds(seed, seeds, default=1 if tiny else 3)
    for name in rules:
        _make(name)
    if lr is not None:
        Synapses(lr=lr)
    if not rules or len(set(rules)) < len(rules):
        raise OptionError(f"rules: expected different names out of {', '.join(RULES)}, got {', '.join(rules) or 'none'}")
    moments = positive("budget", budget if budget is not None else (8 if tiny else 360))
    per_moment = positive("observers", min(observers, 32) if tiny else observers)
    chosen_device = str(choose_device(device))
    processes = choose_workers(workers, chosen_device)
    images = load_images(dataset, data_dir=data_dir, download=download)
    if len(images.classes) < 2:
        raise StimulusError(f"data set {dataset!r}: the readouts need at least 2 classes, got {len(images.classes)}")
    enough_images(images, per_moment)
    setting = Setting(
        dataset=dataset,
        network=network or ("mlp:32-32-32-32" if tiny else default_network(images)),
        budget=moments,
        observers=per_moment,
        device=chosen_device,
        records=4 if tiny else 20,
        probe_images=(200, 100) if tiny else (5000, 2000),
    )
    for name in rules:
        rule = _make(name)
        check_memory(network_for(rule, images, setting.network))
        stream_of(setting, images, rule, chosen_seeds[0])
    folder = Path(out)
    runs = [_run(name, s, lr) for name in rules for s in chosen_seeds]
    options = {**asdict(setting), "lr": lr, "rules": list(rules), "seeds": chosen_seeds}
    done = start(folder, "compare_rules", options, runs, resume)
    interrupted = f"interrupted; what was recorded is kept in {folder}: add --resume to go on"
    todo = [r for r in runs if r.path not in done]
    with indexed(folder, "compare_rules", options, runs) as states:
        outcomes = learn_all(todo, folder=folder, setting=setting, images=images, workers=processes, interrupted=interrupted)
    with telling_what_is_stored(folder):
        return _finish(folder, options, states, outcomes)


def _make(name: str) -> Rule:
    """Return the rule with the options that it has here."""
    return make_rule(name, **OPTIONS.get(name, {}))


def _run(name: str, seed: int, lr: float | None) -> Run:
    """Return one rule with one seed, with its tuned learning rates unless one is given."""
    rule = _make(name)
    return Run(
        protocol="compare_rules",
        name=name,
        label=LABELS.get(name, name),
        rule=rule,
        seed=seed,
        rates=RATES.get(name, SUPERVISED_RATES) if lr is None else (lr, lr),
        path=f"{name}/seed-{seed}",
        reference=rule.reference(),
    )


def _finish(
    folder: Path, options: Mapping[str, Any], states: Mapping[str, str], outcomes: Sequence[Outcome]
) -> analysis.Comparison:
    """Write table and report; print the table and the path of the report."""
    problems = {o.job.path: o.problem for o in outcomes if o.problem}
    if "finished" in states.values():
        comparison = analysis.open_comparison([folder])
        table = comparison.table()
        sentences = analysis.verdicts(comparison)
        title = "How close is local learning to backprop?"
        analysis.Results("compare_rules", title, table, sentences, options=options).save(folder)
        width = shutil.get_terminal_size((160, 24)).columns
        print(analysis.format_table(table, width=max(width, 120)))
        print("\n".join(sentences))
        report = analysis.write_report(comparison, folder / "report.html", figures=folder / "figures")
        print(report)
    if problems:
        raise unfinished(problems, len(states), "runs", folder, ": add --resume to try these again")
    return comparison
