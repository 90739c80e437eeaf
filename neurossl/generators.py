"""One random generator per named concern, seeded from the root seed and the name alone.

Neither the order in which generators are asked for nor the presence of other concerns changes a stream, so a recorder
or an additional pathway can never change a result.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from neurossl.checks import whole


def concern_seed(root_seed: int, concern: str) -> int:
    """Return the 63-bit seed of a concern: the SHA-256 of root seed and name."""
    digest = hashlib.sha256(f"{root_seed}/{concern}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """Return uniform numbers in [0, 1), float32 on the CPU, whatever torch's default type and device are."""
    return torch.rand(*shape, generator=generator, dtype=torch.float32, device="cpu")


class Generators:
    """The named generators of one simulation.

    Parameters
    ----------
    root_seed : int
        Seed of the whole simulation.

    Examples
    --------
    >>> generators = Generators(1)
    >>> generators["weights/retina->V1"] is generators["weights/retina->V1"]
    True
    """

    def __init__(self, root_seed: int = 0) -> None:
        self.root_seed = whole(root_seed, "seed", -(2**63), 2**63 - 1)
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, concern: str) -> torch.Generator:
        if concern not in self._generators:
            generator = torch.Generator(device="cpu")
            generator.manual_seed(concern_seed(self.root_seed, concern))
            self._generators[concern] = generator
        return self._generators[concern]

    def copy(self) -> "Generators":
        """Return generators that stand where these do, and go on by themselves."""
        other = Generators(self.root_seed)
        other.restore(self.state())
        return other

    def state(self) -> dict[str, torch.Tensor]:
        """Return where every generator that has been asked for stands, as a tensor of bytes."""
        return {concern: generator.get_state() for concern, generator in self._generators.items()}

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from where `state` was taken; generators that it does not know begin anew."""
        self._generators = {}
        for concern, position in state.items():
            self[concern].set_state(position.to("cpu", torch.uint8))

    def __repr__(self) -> str:
        return f"Generators(root_seed={self.root_seed}, concerns={sorted(self._generators)})"
