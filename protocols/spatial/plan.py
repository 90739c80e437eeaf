"""What `protocols.spatial_dependence` is asked for: its options, checked, and the runs that follow from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neurossl.anatomy.architectures import from_description
from neurossl.errors import OptionError
from protocols.harness.checks import different, positive
from protocols.harness.rules import safe_name
from protocols.harness.settings import Setting, settle
from protocols.harness.shared import Shown
from protocols.images import published
from protocols.images.plan import SET_ASIDE
from protocols.images.readouts import split_images
from protocols.images.runs import RANDOM, Bench, Task
from protocols.images.tasks import SPLIT_SEED, check_names, check_run
from protocols.spatial.results import METHODS, label_of

NETWORKS = ("residual:8-16:none", "residual:8-16", "residual:8-16:plastic", "tokens:4x32-32")
"""Five populations each, the first without skips: the plain convolutional network."""
USUAL = {"dataset": "photographs", "seeds": 8, "observers": published.OBSERVERS}
TINY = {"seeds": 1}
OWN: dict[str, Any] = {"networks": NETWORKS, "epochs": 8, "trial_epochs": 4, "rates": (3e-4, 1e-3, 3e-3)}
OWN |= {"most_images": None, "most_read": None, "most_tested": None}
OWN_TINY: dict[str, Any] = {**OWN, "networks": ("residual:4-6:none", "tokens:8x4-4"), "epochs": 1, "trial_epochs": 1}
OWN_TINY |= {"rates": (1e-3,), "most_images": 120, "most_tested": 60}
LIMITS = {"images": "most_images", "readout_images": "most_read", "test_images": "most_tested"}
"""What is stored of the numbers of images: `Setting.options` has the digest as ``images``."""


class Options(Shown, total=False):
    """The options of `protocols.spatial_dependence`.

    Parameters
    ----------
    networks : sequence of str
        Networks of maps, as residual:8-16:plastic, conv:16-16-32M or tokens:4x32-32; the first is the plain one, with which
        the others are compared.
    images : int, optional
        Use so many training images; all by default.
    readout_images : int, optional
        Labelled images that readouts learn from; all that are used by default.
    test_images : int, optional
        Read out with so many test images; all by default.
    epochs : int
        Times that every image is shown.
    trial_epochs : int
        Epochs of a trial of a learning rate.
    observers : int
        Images per moment, each seen twice.
    rates : sequence of float
        Learning rates of AdamW, out of which each method in each network is given the one that is best in a trial.
    """

    networks: Sequence[str]
    images: int | None
    readout_images: int | None
    test_images: int | None
    epochs: int | None
    trial_epochs: int | None
    observers: int
    rates: Sequence[float]


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes
    ----------
    setting : Setting
    bench : Bench
        What all runs share.
    networks : list of str
        The plain one first.
    rates : list of float
    tasks : list of Task
        Every method with every seed in every network, with the first of the rates.
    trial_epochs : int
    options : dict
        As they are stored.
    """

    setting: Setting
    bench: Bench
    networks: list[str]
    rates: list[float]
    tasks: list[Task]
    trial_epochs: int
    options: dict[str, Any]


def plan(out: str, given: Mapping[str, Any]) -> Plan:
    """Return what is to be done with these options.

    Raises
    ------
    NeurosslError
        Naming the option.
    """
    setting = settle(out, "spatial_dependence", given, USUAL, TINY)
    usual = OWN_TINY if setting.tiny else OWN
    asked = {**given, **{stored: given.get(name) for name, stored in LIMITS.items()}}

    def option(name: str) -> Any:
        value = asked.get(name)
        return value if value is not None else setting.stored.get(name, usual[name])

    if given.get("networks") is not None:
        different("networks", given["networks"])
    networks, rates = setting.choose("networks", given.get("networks"), usual["networks"]), list(option("rates"))
    check_names(METHODS, [setting.dataset], rates, setting.seeds, 1)
    epochs, trial_epochs = (positive(name.replace("_", " "), option(name)) for name in ("epochs", "trial_epochs"))
    limits = {
        stored: None if option(stored) is None else positive(name.replace("_", " "), option(stored))
        for name, stored in LIMITS.items()
    }
    split = split_images(setting.images, SET_ASIDE, SPLIT_SEED, *limits.values())
    name = safe_name(setting.images.name)
    bench = Bench(
        network=networks[0],
        observers=setting.observers,
        device=setting.device,
        products=None,
        prediction="full",
        negatives=None,
        records=4 if setting.tiny else 12,
        splits={name: split},
        threads=setting.threads,
        protocol=setting.protocol,
        stages=1,
    )
    for network in networks:
        _check_maps(network, setting)
        for method in METHODS:
            check_run(replace(bench, network=network), method, split, setting.observers)
    tasks = [
        Task(
            name,
            method,
            label_of(network, method),
            seed,
            rates[0],
            0 if method == RANDOM else epochs,
            f"{safe_name(network)}/{method}/seed-{seed}",
            network=network,
        )
        for network in networks
        for method in METHODS
        for seed in setting.seeds
    ]
    own = {"networks": networks, "epochs": epochs, "trial_epochs": trial_epochs, "rates": rates, **limits}
    return Plan(setting, bench, networks, rates, tasks, trial_epochs, setting.options(**own))


def _check_maps(network: str, setting: Setting) -> None:
    """Refuse a network in which there is nothing to be spatially dependent.

    Raises
    ------
    OptionError
    """
    built = from_description(network, setting.images.shape)
    flat = [name for name in built.order if len(built.populations[name].shape) == 1]
    if flat:
        raise OptionError(
            f"networks: {network} has populations without places ({', '.join(flat)}); expected maps, such as conv:16-16-32M"
        )
