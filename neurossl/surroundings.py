"""Libraries: which of them may be missing, and how they are used whatever the environment of the shell or notebook says."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

from neurossl.errors import MissingLibrary

OF_SIMULATIONS = ("torch", "torchvision", "brian2", "sklearn", "tqdm", "safetensors")
"""What ``pip install neurossl`` leaves out: stored runs are read, analysed and reported without."""
OPTIONAL = {name: name for name in ("zarr", "dask", "statsmodels", "rsatoolbox")} | {"skdim": "scikit-dimension"}
"""What a single function needs, by the name under which it is imported: its name for pip."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Leave ``MPLBACKEND``, and a ``SOURCE_DATE_EPOCH`` that is no number, out of the environment for a while.

    Figures are drawn into files, by no window system or notebook, so that nothing is lost.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "0")
    is_time = epoch.isascii() and epoch.isdecimal() and len(epoch) < 12
    misleading = ["MPLBACKEND"] + ["SOURCE_DATE_EPOCH"] * (not is_time)
    aside = {variable: os.environ.pop(variable) for variable in misleading if variable in os.environ}
    try:
        yield
    finally:
        os.environ.update(aside)


def imported(name: str) -> ModuleType:
    """Return a module, imported undisturbed.

    Raises
    ------
    MissingLibrary
        If its library is not installed; says how to install it.
    """
    if name not in sys.modules:
        with undisturbed(), installed():
            import_module(name)
    return sys.modules[name]


@contextmanager
def installed() -> Iterator[None]:
    """Say of a library that is imported within and missing how to install it.

    Raises
    ------
    MissingLibrary
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (remedy := remedy_for(error)) is None:
            raise
        raise MissingLibrary(remedy, name=error.name) from None


def remedy_for(error: ModuleNotFoundError) -> str | None:
    """Return what is missing and how to install it; None if it is nothing that we use."""
    library = (error.name or "").partition(".")[0]
    if library in OF_SIMULATIONS:
        return f"this needs {library}, which is not installed: pip install 'neurossl[simulate]'"
    return f"this needs {library}, which is not installed: pip install {OPTIONAL[library]}" if library in OPTIONAL else None
