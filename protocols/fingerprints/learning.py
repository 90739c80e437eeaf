"""The runs of `protocols.rule_fingerprints`: rules that learn at a rate and with observers that are drawn for every run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurossl.errors import OptionError, StimulusError
from neurossl.recorders import ResponseRecorder, WeightRecorder
from neurossl.stimuli import ImageSet, load_images
from protocols.harness import command
from protocols.harness.checks import home, located
from protocols.harness.learning import responses
from protocols.harness.rules import ChosenRule, safe_name
from protocols.harness.settings import Setting
from protocols.harness.trial import Trial, network_for, stream_for, synapses_for
from protocols.images.tasks import place

RULES = (
    *("clapp++gap", "clapp-dfb", "clapp-fixed", "ff", "ff-hybrid", "phyll"),
    *("dfa", "fa", "pc", "bp", "bp-clapp++", "bp-infonce"),
)
NETWORKS = ("mlp:64-64-64", "mlp:96-96-96-96")
SNAPSHOTS = 8
"""Recorded moments after the initial one."""
STIMULI = 100
RATES, OBSERVERS = (3e-4, 3e-3), (32, 64)
"""Range of the learning rate (log-uniform) and numbers of observers out of which every run draws, whatever its rule."""


def loaded(names: Sequence[str], common: Mapping[str, Any]) -> dict[str, ImageSet]:
    """Return the image sets by the names of their folders.

    Raises
    ------
    OptionError, StimulusError
        Naming the data set.
    """
    found: dict[str, ImageSet] = {}
    for name in names:
        folder, fetch = home(common.get("data_dir")), bool(common.get("download"))
        images = load_images(located(name), data_dir=folder, download=fetch)
        if len(images.classes) < 2:
            raise StimulusError(f"data set {name!r}: supervised rules need at least 2 classes, got {len(images.classes)}")
        if len(images.train) < max(OBSERVERS):
            raise StimulusError(f"data set {name!r}: expected at least {max(OBSERVERS)} images, got {len(images.train)}")
        if place(name) in found:
            raise OptionError(f"datasets: {name!r} is there twice")
        found[place(name)] = images
    return found


def trial(setting: Setting, rule: ChosenRule, network: str, dataset: str, images: ImageSet, seed: int) -> Trial:
    """Return one run; its rate and its number of observers are drawn with a generator of rule, network, data and seed."""
    made = rule.make()
    draw = np.random.default_rng([seed % 2**32, *f"{rule.key}/{network}/{dataset}".encode()])
    rate = float(np.exp(draw.uniform(*np.log(RATES))))
    observers = int(draw.choice(OBSERVERS))
    built = network_for(made, images, network)
    every = max(1, setting.budget // SNAPSHOTS)
    recorder: ResponseRecorder = responses(images, made, every, STIMULI)
    about = {"protocol": setting.protocol, "dataset": dataset, "images": repr(images), "observers": observers}
    return Trial(
        name=rule.name,
        label=f"{rule.name}, {network}, {dataset}, seed {seed}",  # no two differ in their seed alone
        seed=seed,
        path=f"{safe_name(dataset)}/{safe_name(network)}/{safe_name(rule.name)}/seed-{seed}",
        rule=made,
        network=built,
        stream=stream_for(
            made, images, images.train, images.train_labels, observers=observers, moments=setting.budget, seed=seed
        ),
        synapses=synapses_for((rate, rate), made, built),
        moments=setting.budget,
        recorders=[WeightRecorder(every=every, pathways=hidden(built)[0]), recorder],
        device=setting.device,
        about={**about, "architecture": network, "rate": rate, "threads": setting.threads, "command": command.given()},
    )


def hidden(network: Any) -> tuple[list[str], list[str]]:
    """Return the pathways and populations that are looked at: those that every rule has, without a readout."""
    populations = [name for name in network.order if name != "readout"]
    below = {pathway.post: name for name, pathway in network.feedforward.items()}
    return [below[name] for name in populations], populations
