"""Libraries imported whatever the environment of the shell or notebook says: some end with an error at what it holds."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType


def imported(name: str) -> ModuleType:
    """Import a module with neither ``MPLBACKEND`` nor a ``SOURCE_DATE_EPOCH`` that is no number in its environment.

    Figures are drawn into files, by no window system or notebook, so that nothing is lost.
    """
    if name in sys.modules:
        return sys.modules[name]
    misleading = ["MPLBACKEND"] + ["SOURCE_DATE_EPOCH"] * (not os.environ.get("SOURCE_DATE_EPOCH", "0").isdecimal())
    aside = {variable: os.environ.pop(variable) for variable in misleading if variable in os.environ}
    try:
        return import_module(name)
    finally:
        os.environ.update(aside)
