"""What `protocols.image_benchmark` is asked for: its options, checked, with the images loaded and split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from neurossl.anatomy.architectures import from_description
from neurossl.anatomy.prediction import PredictionForm
from neurossl.errors import OptionError, StimulusError
from neurossl.stimuli import load_images
from protocols.harness.checks import digest_of, home, located, positive
from protocols.harness.settings import Setting, settle
from protocols.harness.shared import Files, Runs
from protocols.images import published
from protocols.images.readouts import Split, split_images
from protocols.images.runs import SPLIT_SEED, Bench
from protocols.images.tasks import METHODS, check_names, check_run, compared_with, place, without_path

SET_ASIDE = 0.1
"""Fraction of the labelled training images that is set aside for choices."""
USUAL = {"seeds": 2, "observers": published.OBSERVERS, "rates": (published.RATE,), "trial_epochs": 5, "trial_seeds": 1}
USUAL |= {"prediction": "full"}
TINY = {"seeds": 1, "images": 200, "epochs": 1, "trial_epochs": 1, "network": "conv:4M-6M-6M"}


class Options(Files, Runs, total=False):
    """The options of `protocols.image_benchmark`.

    Parameters
    ----------
    datasets : sequence of str
        photographs (embedded, the default), digits (embedded), cifar10, stl10, tiny_imagenet, folder:PATH or stream:PATH.
    size : int, optional
        Resize the images to so many pixels.
    images : int, optional
        Use so many training images of each data set; all by default.
    readout_images : int, optional
        Labelled images that readouts learn from; all that are used by default.
    methods : sequence of str
        Names of rules, and random for a network that does not learn; by default those that the claims need: random,
        clapp++gap, clapp++, clapp++dfb, clapp++both, infonce-local, bp-clapp++, bp-clapp++spatial, bp-infonce and
        bp-infonce-held.
    network : str, optional
        vgg6:0.125 on a CPU and vgg6, as published, on a GPU by default; or conv:32-64M-64-128M, tokens:4x64-64-64, ...
    prediction : str
        Form of the prediction weights: full, low-rank:RANK or banded:DISTANCE.
    negatives : int, optional
        Negatives per positive pair and step; 1 for CLAPP++ and all for BP-InfoNCE by default.
    epochs : int, optional
        Times that every image is shown; 30 on a CPU and 300, as published, on a GPU by default.
    observers : int
        Images per moment, each seen twice.
    rates : sequence of float
        Learning rate of AdamW; of several, each rule is given the one that is best in a trial.
    trial_epochs : int
        Epochs of a trial.
    trial_seeds : int
        Seeds of the trials of every rate, none of which is reported; the best rate has the best mean.
    reference : str, optional
        Compare all rules with this one, backprop of one objective (bp-clapp++, bp-infonce, ...) at the highest population
        that all networks have; each with backprop of its own objective by default.
    published_readout : int, optional
        Read out all populations a second time as published, with Adam for so many epochs (published: 300) on random crops,
        and the best epoch on the test images: a column beside ours, which serves no choice.
    products : str, optional
        bfloat16 for matrix products of this number type.
    """

    datasets: Sequence[str]
    size: int | None
    images: int | None
    readout_images: int | None
    methods: Sequence[str]
    network: str | None
    prediction: str
    negatives: int | None
    epochs: int | None
    observers: int
    rates: Sequence[float]
    trial_epochs: int
    trial_seeds: int
    reference: str | None
    published_readout: int | None
    products: str | None


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    setting : Setting
    bench : Bench
        What all runs share.
    methods : list of str
    rates : list of float
    epochs, trial_epochs, trial_seeds : int
    options : dict
        As they are stored.
    """

    setting: Setting
    bench: Bench
    methods: list[str]
    rates: list[float]
    epochs: int
    trial_epochs: int
    trial_seeds: int
    options: dict[str, Any]


def plan(out: str, given: Mapping[str, Any]) -> Plan:
    """Return what is to be done with these options.

    Raises
    ------
    NeurosslError
        Naming the option.
    """
    setting = settle(out, "image_benchmark", given, {"seeds": USUAL["seeds"]}, {"seeds": TINY["seeds"]})
    on_gpu = torch.device(setting.device).type == "cuda"
    usual: dict[str, Any] = {"epochs": published.EPOCHS if on_gpu else 30, **USUAL}
    usual["network"] = published.NETWORK if on_gpu else f"{published.NETWORK}:0.125"
    usual |= TINY if setting.tiny else {}

    def option(name: str) -> Any:
        value = given.get(name)
        return value if value is not None else setting.stored.get(name, usual.get(name))

    def number(name: str) -> int | None:
        value = option(name)
        return None if value is None else positive(name.replace("_", " "), value)

    methods, rates = setting.choose("methods", given.get("methods"), METHODS), list(option("rates"))
    datasets = _datasets(given.get("datasets"), setting.stored.get("datasets", ()))
    names = ("observers", "epochs", "trial_epochs", "trial_seeds", "images", "readout_images", "negatives")
    numbers = {name: number(name) for name in (*names, "published_readout")}
    check_names(methods, datasets, rates, setting.seeds, numbers["trial_seeds"] or 1)
    description, products, prediction = option("network"), option("products"), option("prediction")
    PredictionForm.parse(prediction)
    if products not in (None, "bfloat16"):
        raise OptionError(f"products: expected bfloat16, got {products!r}")
    observers, negatives = numbers["observers"] or 1, numbers["negatives"]
    if negatives is not None and negatives >= observers:
        raise OptionError(f"negatives: expected fewer than the {observers} observers, got {negatives}")
    splits: dict[str, Split] = {}
    digests: dict[str, str] = {}
    for name in datasets:
        folder, fetch = home(given.get("data_dir")), bool(given.get("download"))
        found = load_images(name, data_dir=folder, download=fetch, size=option("size"))
        if len(found.classes) < 2:
            raise StimulusError(f"data set {name!r}: the readouts need at least 2 classes, got {len(found.classes)}")
        from_description(description, found.shape)
        limits = numbers["images"], numbers["readout_images"], 200 if setting.tiny else None
        splits[place(name)] = split_images(found, SET_ASIDE, SPLIT_SEED, *limits)
        digests[place(name)] = digest_of(found)
    bench = Bench(
        network=description,
        observers=observers,
        device=setting.device,
        products=products,
        prediction=prediction,
        negatives=negatives,
        records=4 if setting.tiny else 20,
        published_readout=numbers["published_readout"],
        splits=splits,
        threads=setting.threads,
    )
    for name in methods:
        for split in splits.values():
            check_run(bench, name, split, observers)
    reference = option("reference")
    if reference is not None:
        bench = replace(bench, compared=compared_with(reference, bench, methods))
    own = {"datasets": [without_path(name) for name in datasets], "methods": methods, "rates": rates, **numbers}
    own |= {"size": option("size"), "network": description, "prediction": prediction, "products": products}
    own |= {"reference": reference}
    options = setting.options(**own, digests=digests)
    epochs, trial_epochs, trial_seeds = (numbers[name] or 1 for name in ("epochs", "trial_epochs", "trial_seeds"))
    return Plan(setting, bench, methods, rates, epochs, trial_epochs, trial_seeds, options)


def _datasets(given: Sequence[str] | None, stored: Sequence[str]) -> list[str]:
    """Return the data sets that are asked for, besides those of what is gone on with: these are stored without a path."""
    asked = [located(name) for name in (given if given is not None else () if stored else ("photographs",))]
    places = {place(name) for name in asked}
    before = [name for name in stored if place(name) not in places]
    for name in before:
        if ":" in name:
            raise OptionError(f"--resume: where is the data set {name}? give it in --datasets again")
    return [*before, *asked]
