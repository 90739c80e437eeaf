"""Synapses: what a proposed update does to the weights: optimiser, learning rate, weight decay, bounds, homeostasis.

Options alone: what an optimiser remembers is state of the simulation, so one object serves several simulations.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from neurossl.anatomy.network import Network
from neurossl.checks import is_finite
from neurossl.errors import OptionError

OPTIMISERS = ("sgd", "adam", "adamw")
OPTIONS = ("optimizer", "lr", "momentum", "betas", "weight_decay", "bounds", "after")


class Synapses:
    """Learning rates and optimisers on updates.

    Parameters
    ----------
    optimizer : {"adamw", "adam", "sgd"} or callable
        A callable is given the list of tensors of a pathway and returns a `torch.optim.Optimizer`.
    lr : float
        Learning rate per moment.
    momentum : float
        Of sgd.
    betas : (float, float)
        Of adam and adamw.
    weight_decay : float
    bounds : (float or None, float or None), "sign" or None
        Limits of the weights after every change. "sign": no weight changes its sign. That neurons excite or inhibit is
        anatomy: ``Population(..., inhibitory=0.2)``.
    after : sequence of callable
        What happens to a pathway after its change, as ``hook(pathway, parameters, activity)``: `WeightNormalisation`,
        `Homeostasis`, or your own function, which may change the parameters in place. The activity is that of the
        postsynaptic population.
    pathways : mapping of str to mapping, optional
        Other options for the pathways whose name matches a pattern: ``{"*=>*": {"lr": 1e-4}}``; the last match counts.

    Raises
    ------
    OptionError
        For unknown options or values out of range.
    """

    def __init__(
        self,
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 1e-3,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        bounds: tuple[float | None, float | None] | str | None = None,
        after: Sequence[Callable[..., Any]] = (),
        pathways: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        usual = {"lr": 1e-3, "momentum": 0.0, "betas": (0.9, 0.999), "weight_decay": 0.0}
        given = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay}
        ignored = [name for name, value in _plain(given).items() if value != usual[name]]
        if callable(optimizer) and ignored:
            raise OptionError(
                f"synapses: {ignored[0]} does not reach an optimiser of your own: give it there, as in lambda parameters: "
                f"torch.optim.SGD(parameters, lr=0.1)"
            )
        self._options = _plain(
            {
                "optimizer": optimizer,
                "lr": lr,
                "momentum": momentum,
                "betas": betas,
                "weight_decay": weight_decay,
                "bounds": bounds,
                "after": after,
            }
        )
        if not isinstance(pathways or {}, Mapping) or not all(
            isinstance(pattern, str) and isinstance(known, Mapping) for pattern, known in (pathways or {}).items()
        ):
            raise OptionError(
                f'synapses: pathways must be options by pattern such as {{"*=>*": {{"lr": 1e-4}}}}, got {pathways!r}'
            )
        self._exceptions = {pattern: _plain(options) for pattern, options in (pathways or {}).items()}
        self.version = 0
        self._check()

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would have no effect.

        Raises
        ------
        OptionError
            With the remedy.
        """
        if not name.startswith("_") and name != "version":
            raise OptionError(f"synapses.{name} = ... changes nothing: use synapses.set({name}=...)")
        super().__setattr__(name, value)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of all pathways without exceptions; to read. `set` changes them."""
        return MappingProxyType(self._options)

    @property
    def exceptions(self) -> Mapping[str, Mapping[str, Any]]:
        """Other options by pattern of the pathway's name; to read. `set` changes them."""
        return MappingProxyType({pattern: MappingProxyType(options) for pattern, options in self._exceptions.items()})

    def set(self, pathways: str | None = None, **options: Any) -> None:
        """Change options, from the next update on, in every simulation that uses this object.

        Parameters
        ----------
        pathways : str, optional
            Pattern of the pathways' names; all of them by default.
        **options
            As when made: ``lr=1e-4``. A pattern without options no longer is an exception.

        Raises
        ------
        OptionError
            For unknown options or values out of range; nothing is changed then.
        """
        if pathways is not None and not isinstance(pathways, str):
            raise OptionError(f"synapses.set: expected a pattern of pathways and options such as lr=1e-4, got {pathways!r}")
        if callable(self._options["optimizer"]) and {"lr", "momentum", "betas", "weight_decay"} & set(options):
            raise OptionError("synapses.set: an optimiser of your own has options of its own, which are set there")
        options = _plain(options)
        before = dict(self._options), {pattern: dict(known) for pattern, known in self._exceptions.items()}
        if pathways is None:
            self._options.update(options)
            for known in self._exceptions.values():
                for name in options:
                    known.pop(name, None)
        else:
            known = self._exceptions.pop(pathways, {})
            if options:
                self._exceptions[pathways] = {**known, **options}
        try:
            self._check()
        except OptionError:
            self._options, self._exceptions = before
            raise
        self.version += 1

    def scale(self, factor: float) -> None:
        """Multiply the learning rate of every pathway by a factor, exceptions included: a schedule.

        Raises
        ------
        OptionError
            If it is no finite number >= 0, or a pathway has an optimiser of one's own.
        """
        if not is_finite(factor) or factor < 0:
            raise OptionError(f"synapses.scale: expected a finite factor >= 0, got {factor!r}")
        parts = [self._options, *self._exceptions.values()]
        if any(callable(options.get("optimizer")) for options in parts):
            raise OptionError("synapses.scale: an optimiser of your own has options of its own, which are set there")
        for options in parts:
            if "lr" in options:
                options["lr"] = options["lr"] * factor
        self.version += 1

    def put_back(self, described: Mapping[str, Any]) -> None:
        """Have again the options that `describe` returned.

        Raises
        ------
        OptionError
            If one of them that differs is a function, which is not stored.
        """
        now = self.describe()
        if described == now:
            return

        def merged(was: Mapping[str, Any], shown: Mapping[str, Any], mine: Mapping[str, Any]) -> dict[str, Any]:
            return {name: mine[name] if value == shown.get(name, ...) else value for name, value in was.items()}

        options = merged({name: described[name] for name in OPTIONS}, now, self._options)
        known = now["pathways"], self._exceptions
        exceptions = {p: merged(o, *(part.get(p, {}) for part in known)) for p, o in described["pathways"].items()}
        try:
            made = Synapses(**options, pathways=exceptions)
        except OptionError as reason:
            raise OptionError(f"restore: the synapses of the state cannot be made again ({reason}): set them") from None
        self._options, self._exceptions = made._options, made._exceptions
        self.version += 1

    def options_for(self, pathway: str) -> dict[str, Any]:
        """Return the options that hold for a pathway."""
        options = dict(self._options)
        for pattern, exception in self._exceptions.items():
            if fnmatchcase(pathway, pattern):
                options.update(exception)
        return options

    def check(self, network: Network) -> None:
        """Refuse patterns that match no pathway of a network, and optimisers that the gain of a pathway does not reach.

        Raises
        ------
        OptionError
            Naming the pattern and the pathways that there are, or the pathway.
        """
        for pattern in self._exceptions:
            if not any(fnmatchcase(name, pattern) for name in network.pathways):
                raise OptionError(
                    f"synapses of {pattern!r}: no pathway has such a name (there are: {', '.join(network.pathways)})"
                )
        for name, pathway in network.pathways.items():
            if pathway.gain != 1 and pathway.plastic and callable(self.options_for(name)["optimizer"]):
                raise OptionError(
                    f"synapses: pathway {name!r} has a gain of {pathway.gain:.4g}, which does not reach an optimiser of "
                    'your own: use optimizer="sgd", "adam" or "adamw"'
                )

    def _check(self) -> None:
        _check("synapses", self._options)
        for pattern, options in self._exceptions.items():
            _check(f"synapses of {pattern!r}", {**self._options, **options})

    def describe(self) -> dict[str, Any]:
        """Return the options as stored with a run."""
        exceptions = {pattern: _shown(options) for pattern, options in self._exceptions.items()}
        return {**_shown(self._options), "pathways": exceptions}

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.describe().items() if v)
        return f"Synapses({shown})"


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with the numbers and arrays of numpy as numbers and tuples of Python, which can be stored."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            value = value.tolist()
        return tuple(map(plain, value)) if isinstance(value, list | tuple) else value

    known = {name: plain(value) for name, value in options.items()}
    if "after" in known and not isinstance(known["after"], tuple):
        known["after"] = (known["after"],)
    return known


def _shown(options: Mapping[str, Any]) -> dict[str, Any]:
    shown = {k: _named(v) if callable(v) else v for k, v in options.items()}
    shown = {k: list(v) if isinstance(v, tuple) else v for k, v in shown.items()}
    if "after" in shown:
        shown["after"] = [_named(hook) for hook in options["after"]]
    return shown


def _named(function: Callable[..., Any]) -> str:
    """Return what tells a function from others of its name, and from a built-in optimiser."""
    name = getattr(function, "__qualname__", None)
    return repr(function) if name is None else f"{function.__module__}.{name}"


def _check(where: str, options: dict[str, Any]) -> None:
    """Raise OptionError unless the options make sense."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise OptionError(f"{where}: {unknown[0]!r} does not exist, expected {', '.join(OPTIONS)}")
    optimizer = options["optimizer"]
    if not callable(optimizer) and (not isinstance(optimizer, str) or optimizer not in OPTIMISERS):
        raise OptionError(f"{where}: optimizer {optimizer!r} does not exist, expected {', '.join(OPTIMISERS)}")
    for name in ("lr", "momentum", "weight_decay"):
        value = options[name]
        if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= float(value) < float("inf"):
            raise OptionError(f"{where}: {name} must be a finite number >= 0, got {value!r}")
    betas = options["betas"]
    if not isinstance(betas, Sequence) or len(betas) != 2 or not all(_is_number(b) and 0 <= b < 1 for b in betas):
        raise OptionError(f"{where}: betas must be two numbers >= 0 and < 1, got {betas}")
    for hook in options["after"]:
        if not callable(hook) or isinstance(hook, type):
            raise OptionError(f"{where}: after must be functions (pathway, parameters, activity), got {hook!r}")
    _check_bounds(where, options["bounds"])


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and value == value


def _check_bounds(where: str, bounds: Any) -> None:
    if bounds is None or bounds == "sign":
        return
    if bounds == "dale":
        raise OptionError(
            f"{where}: Dale's law holds for all synapses of a neuron: say Population(..., inhibitory=0.2) instead of bounds"
        )
    if isinstance(bounds, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
        raise OptionError(f"{where}: bounds must be (low, high), 'sign' or None, got {bounds!r}")
    low, high = bounds
    if not all(end is None or _is_number(end) for end in bounds):
        raise OptionError(f"{where}: bounds must be numbers or None, got {bounds!r}")
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise OptionError(f"{where}: bounds must be (low, high) with low <= high, got {bounds}")
