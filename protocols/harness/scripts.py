"""Python files of the user's: protocols and rules that no package holds.

A script finds what lies beside it, but after the standard library: a script called ``random.py`` or ``queue.py`` runs, and
so does what it imports.
"""

import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from neurossl.errors import NeurosslError, OptionError

INSTALLED = frozenset(
    {"torch", "torchvision", "numpy", "scipy", "xarray", "netCDF4", "brian2", "sklearn", "matplotlib", "jinja2", "tqdm"}
    | {"PIL", "safetensors", "pandas", "sympy", "threadpoolctl"}
)
"""Libraries without which nothing works."""


class ScriptError(NeurosslError):
    """A script of the user's that raised something while it ran."""

    exit_status = 1


def load_script(path: Path, what: str = "protocol script") -> ModuleType:
    """Return the module of a Python file.

    Raises
    ------
    OptionError
        If there is no such file, or it cannot be imported; names the line.
    """
    if not path.is_file():
        raise OptionError(f"{what} {str(path)!r}: there is no such file")
    for hidden in sorted({path.stem, *(file.stem for file in path.absolute().parent.glob("*.py"))} & INSTALLED):
        raise OptionError(f"{what} {str(path)!r}: {hidden}.py beside it hides the library {hidden!r}: give it another name")
    name = f"script {path.stem}"  # can be no other module's
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a .py file has a specification"
    assert spec.loader is not None, "and a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    find_beside(path.absolute().parent)
    with naming_the_script(path, OptionError, what):
        spec.loader.exec_module(module)
    return module


@contextmanager
def naming_the_script(path: Path, kind: type[NeurosslError], what: str = "protocol script") -> Iterator[None]:
    """Turn what a script raises into one line that names the last of its own lines on the way."""
    try:
        yield
    except NeurosslError:
        raise
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as reason:
        frames = traceback.extract_tb(reason.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
        line = reason.lineno if isinstance(reason, SyntaxError) and not lines else lines[-1] if lines else None
        where = "" if line is None else f", line {line}"
        try:
            said = reason.msg if isinstance(reason, SyntaxError) else str(reason)
        except Exception:
            said = "(it cannot say why)"
        raise kind(f"{what} {str(path)!r}{where}: {type(reason).__name__}: {said}") from None


def find_beside(folder: Path) -> None:
    """Let modules beside a script be found: before what is installed, after the standard library."""
    if str(folder) in sys.path:
        return
    library = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    first = [entry for entry in sys.path if entry in library or entry.endswith(("lib-dynload", ".zip"))]
    sys.path[:] = [*first, str(folder), *(entry for entry in sys.path if entry not in first)]
