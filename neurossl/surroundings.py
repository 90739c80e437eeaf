"""Libraries used whatever the environment of the shell or notebook says: some end with an error at what it holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


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
    """Return a module, imported undisturbed."""
    if name not in sys.modules:
        with undisturbed():
            import_module(name)
    return sys.modules[name]
