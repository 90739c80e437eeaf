"""How close is each local rule to backprop, and does it buy a better representation? (the main job)

Every rule learns in the same network, from the same initial feedforward weights and the same views of the same images, for
the same number of observations. Recorded: how well each proposed update is aligned with the backprop-derived one of the
same objective, the weights, the activity, and what a linear readout finds in every population before and after learning.
"""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import analysis
from neurossl.architectures import from_description
from neurossl.device import choose_device
from neurossl.errors import NeurosslError, OptionError, StimulusError
from neurossl.generators import Generators
from neurossl.network import Network
from neurossl.plasticity import RULES, Rule, Synapses, make_rule
from neurossl.recorders import ActivityRecorder, PerformanceRecorder, UpdateRecorder, WeightRecorder
from neurossl.simulation import Simulation
from neurossl.stimuli import DoubledInput, ImageSet, ViewPairs, WakeSleep, default_views, load_images
from protocols.jobs import Outcome, Progress, can_fork, run_jobs
from protocols.notebook import (
    differing_options,
    move_aside,
    new_folder,
    plain,
    refusing_to_write,
    telling_what_is_stored,
    write_json,
)
from protocols.probing import Probes

DEFAULT_RULES = ("clapp", "clapp-dfb", "ff", "dfa", "pc", "bp-clapp", "bp")
LABELS = {
    "clapp": "CLAPP (lateral)",
    "clapp-dfb": "CLAPP (direct feedback)",
    "clapp++": "CLAPP++",
    "clapp++dfb": "CLAPP++DFB",
    "clapp++both": "CLAPP++both",
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
    **dict.fromkeys(
        ("clapp", "clapp-dfb", "clapp++", "clapp++dfb", "clapp++both", "bp-clapp", "bp-clapp++"), CONTRASTIVE_RATES
    ),
    **dict.fromkeys(("ff", "ff-hybrid", "bp-ff", "bp"), GOODNESS_RATES),
}
"""Learning rates of AdamW, of the feedforward and of the prediction weights, where they differ from `SUPERVISED_RATES`:
the best of a small grid on the digits. Prediction weights that learn ten times faster keep up with what they predict;
direct feedback and backprop of the contrastive top profit most."""
OPTIONS: dict[str, dict[str, Any]] = {"pc": {"steps": 6, "rate": 0.05}, "ipc": {"steps": 6, "rate": 0.05}}
"""Options of rules that differ from their defaults: short settling in small steps, which the budget of time asks for."""


@dataclass(frozen=True)
class Job:
    """One rule with one seed."""

    rule: str
    seed: int
    path: str


@dataclass(frozen=True)
class Setting:
    """What all runs of a comparison share."""

    dataset: str
    network: str
    budget: int
    observers: int
    lr: float | None
    device: str
    records: int
    probe_images: tuple[int, int]


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
        digits (embedded), mnist, fashion_mnist, cifar10, stl10 or folder:PATH (train/ and test/ or val/ of class folders).
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
    if seed is not None and seeds is not None:
        raise OptionError(f"--seed {seed} runs one seed, --seeds {seeds} several: give one of them")
    for name in rules:
        _make(name)
    if lr is not None:
        Synapses(lr=lr)
    if not rules or len(set(rules)) < len(rules):
        raise OptionError(f"rules: expected different names out of {', '.join(RULES)}, got {', '.join(rules) or 'none'}")
    count = seeds if seeds is not None else 1 if tiny else 3
    chosen_seeds = [_storable(seed)] if seed is not None else list(range(_positive("seeds", count, 1000)))
    setting = Setting(
        dataset=dataset,
        network=network or ("" if not tiny else "mlp:32-32-32-32"),
        budget=_positive("budget", budget if budget is not None else (8 if tiny else 360)),
        observers=_positive("observers", min(observers, 32) if tiny else observers),
        lr=lr,
        device=str(choose_device(device)),
        records=4 if tiny else 20,
        probe_images=(200, 100) if tiny else (5000, 2000),
    )
    if workers is not None:
        _positive("workers", workers)
    images = load_images(dataset, data_dir=data_dir, download=download)
    if len(images.classes) < 2:
        raise StimulusError(f"data set {dataset!r}: the readouts need at least 2 classes, got {len(images.classes)}")
    if not setting.network:
        setting = Setting(**{**asdict(setting), "network": _default_network(images)})
    for name in rules:
        rule = _make(name)
        _check_memory(_build(setting, images, rule))
        stream_for(rule, images, setting, chosen_seeds[0])
    folder = Path(out)
    jobs = [Job(name, s, f"{name}/seed-{s}") for name in rules for s in chosen_seeds]
    options = {**asdict(setting), "rules": list(rules), "seeds": chosen_seeds}
    done = _prepare(folder, options, jobs, resume)
    outcomes = _learn_all(folder, setting, images, [j for j in jobs if j.path not in done], workers)
    with telling_what_is_stored(folder):
        return _finish(folder, options, jobs, outcomes, images)


def _make(name: str) -> Rule:
    """Return the rule with the options that it has here."""
    return make_rule(name, **OPTIONS.get(name, {}))


def _positive(name: str, value: int, most: int = 10**9) -> int:
    if not 1 <= value <= most:
        raise OptionError(f"{name}: expected a whole number from 1 to {most:,}, got {value}")
    return value


def _storable(seed: int) -> int:
    if not -(2**63) <= seed < 2**63:
        raise OptionError(f"seed: expected a whole number of at most 64 bits, got {seed}")
    return seed


def _default_network(images: ImageSet) -> str:
    return "mlp:256-256-256-256" if images.shape[0] == 1 and images.shape[1] <= 28 else "conv:32M-64M-128M-128M"


def _build(setting: Setting, images: ImageSet, rule: Rule) -> Network:
    """Return the network for a rule: the same for all, with a readout where the rule is taught."""
    classes = len(images.classes) if "target" in rule.needs else None
    return from_description(setting.network, images.shape, classes, normalisation=rule.normalisation)


def _check_memory(network: Network) -> None:
    """Refuse a network whose weights, updates and optimiser cannot fit into the memory of this machine."""
    synapses = sum(pathway.synapses for pathway in network.pathways.values())
    needed, there = 4 * 4 * synapses, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise OptionError(
            f"network {network.name!r}: {synapses:,} synapses with updates and optimiser take {needed / 1e9:,.0f} GB, "
            f"this machine has {there / 1e9:,.0f} GB: choose a smaller one"
        )


def stream_for(rule: Rule, images: ImageSet, setting: Setting, seed: int) -> Any:
    """Return the stream of moments that a rule waits for, on the same views for all rules."""
    views = default_views(images)
    common: dict[str, Any] = {"observers": setting.observers, "moments": setting.budget, "seed": seed}
    if rule.normalisation == "standard":
        return DoubledInput(images.train, images.train_labels, views, **common)
    if "phases" in rule.needs and "settling" not in rule.needs:
        negatives = "labels" if "label in the stimulus" in rule.needs else "hybrids"
        return WakeSleep(images.train, images.train_labels, views, len(images.classes), negatives=negatives, **common)
    return ViewPairs(images.train, images.train_labels, views, **common)


def _prepare(folder: Path, options: Mapping[str, Any], jobs: Sequence[Job], resume: bool) -> set[str]:
    """Make the folder and return the paths of the runs that are already finished."""
    done: set[str] = set()
    if resume:
        for key, was in differing_options(folder / "comparison.json", options).items():
            raise OptionError(f"--resume: {folder} was made with {key} = {was}, not {options[key]}")
        for job in jobs:
            run_folder = folder / job.path
            if run_folder.is_dir() and analysis.manifest(run_folder).get("state") == "finished":
                done.add(job.path)
            elif run_folder.exists():
                move_aside(run_folder)
    else:
        new_folder(folder)
    with refusing_to_write(folder):
        _write_index(folder, options, [_entry(job, "planned") for job in jobs])
    return done


def _learn_all(folder: Path, setting: Setting, images: ImageSet, jobs: Sequence[Job], workers: int | None) -> list[Outcome]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    several = setting.device == "cpu" and can_fork()
    count = min(len(jobs), workers or cores) if several else 1
    learn = partial(_learn, folder=folder, setting=setting, images=images)
    if count > 1:
        _load_before_forking()
    progress: dict[str, int] = {}
    with tqdm(total=len(jobs) * setting.budget, desc=f"{len(jobs)} runs", unit="moment", smoothing=0.05) as bar:

        def show(job: Job, moments: int) -> None:
            bar.update(moments - progress.get(job.path, 0))
            progress[job.path] = moments
            bar.set_postfix_str(f"{job.rule} seed {job.seed}", refresh=False)

        try:
            return run_jobs(jobs, learn, count, show)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; what was recorded is kept in {folder}: add --resume to go on") from None


def _load_before_forking() -> None:
    """Load once what every run would load for itself, which takes seconds: the optimisers' machinery and the probes'."""
    import sklearn.linear_model
    import sklearn.neighbors  # noqa: F401

    torch.optim.AdamW([torch.zeros(1)])


def _learn(job: Job, progress: Progress, *, folder: Path, setting: Setting, images: ImageSet) -> float:
    """Run one rule with one seed, store it, and return the seconds that learning took."""
    rule = _make(job.rule)
    network = _build(setting, images, rule)
    reference = rule.reference()
    views = default_views(images)
    rate, prediction_rate = RATES.get(job.rule, SUPERVISED_RATES) if setting.lr is None else (setting.lr, setting.lr)
    synapses = Synapses("adamw", lr=rate, pathways={"*=>*": {"lr": prediction_rate}})
    stream = stream_for(rule, images, setting, job.seed)
    every = max(1, setting.budget // setting.records)
    configuration = {
        "protocol": "compare_rules",
        **rule.describe(),
        "label": LABELS.get(job.rule, job.rule),
        "reference": None if reference is None else _reference_name(rule),
        "seed": job.seed,
        "dataset": setting.dataset,
        "images": repr(images),
        "views": repr(views),
        "stream": repr(stream),
        "synapses": synapses.describe(),
        "budget": setting.budget,
        "observers": setting.observers,
        "device": setting.device,
        "dtype": "float32",
    }
    generator = Generators(job.seed)["probe"]
    probe = Probes(images, views, generator, most=setting.probe_images, neutral="label in the stimulus" in rule.needs)
    probing = 0.0

    def timed_probe(simulation: Simulation) -> Mapping[str, Mapping[str, float]]:
        nonlocal probing
        begun = time.perf_counter()
        found = probe(simulation)
        probing += time.perf_counter() - begun
        return found

    network.complete(job.seed, torch.device(setting.device), torch.float32)
    rule.wire(network)
    configuration["network"] = network.describe()
    with analysis.TrajectoryWriter(folder / job.path, configuration) as writer:
        recorders = [
            WeightRecorder(writer, every=max(1, setting.budget // 4)),
            *([UpdateRecorder(writer, every, reference)] if reference is not None else []),
            ActivityRecorder(writer, every),
            PerformanceRecorder(writer, every, timed_probe),
        ]
        simulation = Simulation(network, rule, synapses, seed=job.seed, device=setting.device, recorders=recorders)
        begun = time.perf_counter()
        simulation.run(stream, report=lambda done, total: progress(done))
        seconds = time.perf_counter() - begun - probing
        writer.close("finished", seconds=seconds)
    return seconds


def _reference_name(rule: Rule) -> str:
    """Return the short name of backprop on the rule's objective."""
    names = {"contrastive": "BP-CLAPP", "goodness": "BP-goodness", "InfoNCE": "BP-InfoNCE"}
    return next((name for start, name in names.items() if rule.objective_name.startswith(start)), "BP, supervised")


def _entry(job: Job, state: str | None, seconds: float | None = None) -> dict[str, Any]:
    """Return what the index says of a run."""
    names = {"rule": job.rule, "label": LABELS.get(job.rule, job.rule), "seed": job.seed, "path": job.path}
    return {**names, "state": state, "seconds": seconds}


def _write_index(folder: Path, options: Mapping[str, Any], runs: list[dict[str, Any]]) -> None:
    content = {"schema_version": 1, "protocol": "compare_rules", "options": plain(options), "runs": runs}
    write_json(folder / "comparison.json", content)


def _finish(
    folder: Path, options: Mapping[str, Any], jobs: Sequence[Job], outcomes: Sequence[Outcome], images: ImageSet
) -> analysis.Comparison:
    """Write index, table and report; print the table and the path of the report."""
    problems = {o.job.path: o.problem for o in outcomes if o.problem}
    runs = []
    for job in jobs:
        if (folder / job.path / "manifest.json").is_file():
            manifest = analysis.manifest(folder / job.path)
            runs.append(_entry(job, manifest.get("state"), manifest.get("seconds")))
    _write_index(folder, options, runs)
    finished = [r for r in runs if r["state"] == "finished"]
    if finished:
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
        path, reason = next(iter(problems.items()))
        error = NeurosslError(
            f"{len(problems)} of {len(jobs)} runs could not finish; {path}: {reason}; what was recorded is kept in "
            f"{folder}: add --resume to try these again"
        )
        error.exit_status = 1
        raise error
    return comparison
