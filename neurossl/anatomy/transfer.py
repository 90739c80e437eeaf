"""Transfer functions ``z = rho(a)`` of rate neurons and their slopes ``rho'(a)``."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from neurossl.errors import NetworkError


class Transfer(ABC):
    """A transfer function rho and its slope.

    Every transfer function here has a slope that follows from the activity alone, so that the drive need not be kept until
    credit arrives.

    Attributes
    ----------
    increasing : bool
        Whether each neuron's activity increases with its own drive alone: the winner of a max-pooling is then the same
        before and after rho.
    """

    name: str
    increasing = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Give a transfer function of one's own the name of its class, where it has none."""
        super().__init_subclass__(**options)
        if not isinstance(getattr(cls, "name", None), str):
            cls.name = cls.__name__

    def check(self, population: str) -> None:
        """Compare the slope with differences of rho, as far as it is one of each neuron alone.

        Raises
        ------
        NetworkError
            Naming the population, if rho or gated are not what they should be.
        """
        where = f"population {population!r}: transfer {self.name!r}"
        drive, step = torch.linspace(-2.13, 2.07, 12, dtype=torch.float64).view(2, 6), 1e-5
        try:
            activity = self.rho(drive.clone())
            slope = self.gated(torch.ones_like(drive), activity)
        except Exception as reason:
            raise NetworkError(f"{where}: rho() or gated() ends in {type(reason).__name__}: {reason}") from None
        shapes = [tuple(part.shape) if isinstance(part, Tensor) else None for part in (activity, slope)]
        if shapes != [tuple(drive.shape)] * 2:
            raise NetworkError(f"{where}: rho() and gated() must return tensors of the shape that they are given")
        if not self.increasing or type(self).lateral is not Transfer.lateral:
            return
        up, down = (self.rho(drive + step) - activity) / step, (activity - self.rho(drive - step)) / step
        smooth = (up - down).abs() < 1e-2 * (1 + up.abs())
        wrong = smooth & ((up + down) / 2 - slope).abs().gt(1e-3 * (1 + slope.abs()))
        if bool(wrong.any()):
            at = int(wrong.flatten().nonzero()[0])
            found, expected = float(slope.flatten()[at]), float(up.flatten()[at])
            where += f": gated() must be the credit times the slope of rho(): at a drive of {float(drive.flatten()[at]):.2f}"
            raise NetworkError(f"{where} the slope is {expected:.3g}, got {found:.3g}")

    @property
    def can_be_negative(self) -> bool:
        """Whether an activity may be below 0."""
        return bool((self.rho(torch.linspace(-9, 9, 64, dtype=torch.float64).view(1, -1)) < 0).any())

    @abstractmethod
    def rho(self, drive: Tensor) -> Tensor:
        """Return the activity of a drive, both (rows, *neurons); the drive may be overwritten."""

    @abstractmethod
    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return credit on the activity times the slope at the drive that led to this activity, both of one shape."""

    def lateral(self, somatic: Tensor) -> Tensor:
        """Return what the neurons of a population hand on to each other of the gated credit, (rows, *neurons)."""
        return somatic

    def __repr__(self) -> str:
        return self.name


class Relu(Transfer):
    """``rho(a) = max(0, a)``; slope 0 at a = 0."""

    name = "relu"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``max(0, drive)``."""
        return drive.relu_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Let the credit of active neurons through."""
        return torch.ops.aten.threshold_backward(credit, activity, 0)


class Linear(Transfer):
    """``rho(a) = a``."""

    name = "linear"

    def rho(self, drive: Tensor) -> Tensor:
        """Return the drive."""
        return drive

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Return the credit."""
        return credit


class Tanh(Transfer):
    """``rho(a) = tanh(a)``."""

    name = "tanh"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``tanh(drive)``."""
        return drive.tanh_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Multiply with ``1 - activity**2``."""
        return torch.ops.aten.tanh_backward(credit, activity)


class Softplus(Transfer):
    """``rho(a) = log(1 + exp(a))``, exact at every drive (no linear cut-off)."""

    name = "softplus"

    def rho(self, drive: Tensor) -> Tensor:
        """Return ``log(1 + exp(drive))``."""
        return torch.logaddexp(drive, torch.zeros_like(drive))

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Multiply with the logistic function of the drive, ``1 - exp(-activity)``."""
        return credit * (-activity).expm1_().neg_()


class Triangle(Transfer):
    """``rho(a)_j = max(0, a_j - mean_i a_i)``: subtractive inhibition across channels (Coates et al. 2011)."""

    name = "triangle"
    increasing = False

    def rho(self, drive: Tensor) -> Tensor:
        """Return the rectified deviation from the mean over channels."""
        return (drive - drive.mean(1, keepdim=True)).relu_()

    def gated(self, credit: Tensor, activity: Tensor) -> Tensor:
        """Let the credit of active neurons through."""
        return torch.ops.aten.threshold_backward(credit, activity, 0)

    def lateral(self, somatic: Tensor) -> Tensor:
        """Subtract the mean over channels."""
        return somatic - somatic.mean(1, keepdim=True)


TRANSFERS: dict[str, Transfer] = {t.name: t for t in (Relu(), Linear(), Tanh(), Softplus(), Triangle())}


def register_transfer(transfer: Transfer) -> Transfer:
    """Make a transfer function available by its name.

    Raises
    ------
    NetworkError
        If it is no `Transfer`, or another one has its name.
    """
    if not isinstance(transfer, Transfer) or not isinstance(getattr(transfer, "name", None), str):
        raise NetworkError(
            f"register_transfer: expected an instance of a subclass of Transfer with a name, got {transfer!r}"
        )
    if type(TRANSFERS.get(transfer.name, transfer)) is not type(transfer):
        raise NetworkError(f"register_transfer: there is another transfer function called {transfer.name!r}")
    TRANSFERS[transfer.name] = transfer
    return transfer


def transfer_named(transfer: str | Transfer, population: str) -> Transfer:
    """Return a transfer function by name, or the one given.

    Raises
    ------
    NetworkError
        If it does not exist, or is something else, such as a module of torch.
    """
    if isinstance(transfer, Transfer):
        return transfer
    if not isinstance(transfer, str) or transfer not in TRANSFERS:
        raise NetworkError(
            f"population {population!r}: transfer {transfer!r} does not exist, expected {', '.join(TRANSFERS)} "
            "or a subclass of neurossl.Transfer; register_transfer(...) makes one of your own known by its name"
        )
    return TRANSFERS[transfer]
