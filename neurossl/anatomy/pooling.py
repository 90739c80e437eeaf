"""Pooling of a map over space, between the neurons of a population and what others read of it."""

from dataclasses import dataclass

from neurossl.anatomy.shapes import Pair, Shape, pair
from neurossl.checks import one_of
from neurossl.errors import NetworkError, OptionError


@dataclass(frozen=True)
class Pooling:
    """Max or average pooling over space.

    Parameters
    ----------
    kind : {"max", "average"}
    kernel : int or (int, int)
    stride : int or (int, int), optional
        The kernel by default; a remainder at the border is ignored.
    padding : int or (int, int)
    """

    kind: str = "max"
    kernel: int | Pair = 2
    stride: int | Pair | None = None
    padding: int | Pair = 0

    def __post_init__(self) -> None:
        one_of(self.kind, ("max", "average"), "Pooling.kind", NetworkError)
        try:
            fits = all(p <= k // 2 for p, k in zip(self.margin, self.window, strict=True)) and min(self.step) >= 1
        except (ValueError, OptionError) as reason:
            raise NetworkError(f"Pooling: {reason}") from None
        if not fits:
            raise NetworkError(f"{self}: expected kernel >= 1, stride >= 1 and 0 <= padding <= kernel / 2")

    @property
    def window(self) -> Pair:
        """Kernel in neurons, (rows, columns)."""
        return pair(self.kernel, "kernel", 1)

    @property
    def step(self) -> Pair:
        """Stride in neurons, (rows, columns)."""
        return self.window if self.stride is None else pair(self.stride, "stride", 1)

    @property
    def margin(self) -> Pair:
        """Padding in neurons, (rows, columns)."""
        return pair(self.padding, "padding", 0)

    def shape(self, neurons: Shape) -> Shape:
        """Return the shape after pooling of (channels, height, width)."""
        channels, *space = neurons
        geometry = zip(space, self.margin, self.window, self.step, strict=True)
        return channels, *((n + 2 * p - k) // s + 1 for n, p, k, s in geometry)

    def describe(self) -> str:
        """Return what a stored run says about it, such as ``max 2/2``."""
        shown = [str(v[0]) if v[0] == v[1] else f"{v[0]}x{v[1]}" for v in (self.window, self.step)]
        return f"{self.kind} {'/'.join(shown)}"
