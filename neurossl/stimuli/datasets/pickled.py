"""The batches of CIFAR-10, which are pickles of Python 2: read without calling anything that they name.

A pickle is a program. Here it can make dicts, lists, strings and numbers; the names of numpy that a batch has stand for an
object that keeps what it is given, and any other name is refused. What comes out is then looked at.
"""

import io
import pickle
from typing import Any

import numpy as np

_BYTES_EACH = 3 * 32 * 32
_NAMES = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
)


class _Kept:
    """What stands in a pickle for something of numpy."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


# The unpickler in C makes room for as many remembered objects as a file says that it has.
class _Unpickler(pickle._Unpickler):
    """An unpickler that calls nothing."""

    def find_class(self, module: str, name: str) -> type[_Kept]:
        """Return what keeps its arguments, for the names that a batch has."""
        if (module, name) not in _NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _Kept

    def persistent_load(self, identity: Any) -> Any:
        """Refuse references to elsewhere."""
        raise pickle.UnpicklingError("it refers to something else")


def read_batch(packed: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return images, (images, 3072), and labels, (images,), both of uint8, of a pickled batch.

    Raises
    ------
    ValueError
        If it is no such batch; nothing that it names has been called.
    """
    try:
        found = _Unpickler(io.BytesIO(packed), encoding="bytes").load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
        content = batch["data"].state[-1]
        labels = np.array(batch["labels"] if "labels" in batch else batch["fine_labels"], np.uint8)
    # Damaged pickles end in errors of any kind.
    except Exception as reason:
        message = str(reason).split("\n")[0] or type(reason).__name__
        raise ValueError(f"not a batch of images ({message})") from None
    if not isinstance(content, bytes) or labels.ndim != 1 or len(content) != _BYTES_EACH * len(labels):
        raise ValueError("not a batch of images of 3 x 32 x 32 pixels, with one label each")
    return np.frombuffer(content, np.uint8).reshape(-1, _BYTES_EACH).copy(), labels
