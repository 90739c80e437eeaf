"""The rules against reference values: ``neurossl selftest``.

A reference file is an ``.npz`` with one small network in float64: weights, inputs, and what must become of the weights;
``meta`` (a JSON string) says by which rule. The files that come with the package were computed with the published
implementation of arXiv 2601.21683 and by explicit loops that share no code with the rules (``tests/explicit``).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from neurossl.device import choose_device, choose_dtype
from neurossl.errors import NeurosslError, OptionError
from neurossl.plasticity import RULES
from neurossl.selftest.families import FAMILIES
from neurossl.selftest.files import Inputs, Outcome, UnsuitableArray, compare, read
from neurossl.selftest.learning import learned

_MISFITS = (NeurosslError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError, MemoryError)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def shipped_files() -> list[Path]:
    """Return the reference files that come with the package."""
    return sorted((Path(__file__).parent / "reference").glob("*.npz"))


def check_file(path: Path, device: torch.device, dtype: torch.dtype) -> Outcome:
    """Compare every array of a reference file with what the rules give.

    Raises
    ------
    UnreadableReference
        If the file cannot be read or is for no known rule.
    """
    meta, arrays = read(path, device, dtype, {*FAMILIES, *RULES})
    try:
        calculate = learned if "network" in meta else FAMILIES[meta["rule"]]
        got = calculate(meta, Inputs(arrays, path.name))
    except UnsuitableArray as problem:
        return Outcome(path.name, float("nan"), "", 0, str(problem))
    except _MISFITS as problem:
        reason = f"{type(problem).__name__}: {problem}".split("\n")[0]
        return Outcome(path.name, float("nan"), "", 0, f"does not fit together: {reason}")
    return compare(path.name, got, arrays)


def run_selftest(
    files: Iterable[str | Path] = (), device: str = "cpu", dtype: str = "float64", report: Callable[[str], None] = print
) -> bool:
    """Check reference files and report one line each.

    Parameters
    ----------
    files : iterable of path
        Those shipped with the package when empty.
    device : str
    dtype : {"float64", "float32"}
    report : callable
        Is given every line.

    Returns
    -------
    bool
        Whether all are below the tolerance (1e-10 in float64, 1e-4 in float32).

    Raises
    ------
    NeurosslError
        For a file that cannot be read, or an unknown device or dtype.
    """
    number_type = choose_dtype(dtype)
    if number_type not in TOLERANCE:
        raise OptionError(f"dtype {dtype!r}: the self-test knows float64 and float32")
    tolerance = TOLERANCE[number_type]
    place = choose_device(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks of a few neurons: several threads would wait for each other
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        outcomes = []
        for path in [Path(f) for f in files] or shipped_files():
            outcomes.append(check_file(path, place, number_type))
            report(outcomes[-1].line(tolerance))
    finally:
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    passed = sum(o.passed(tolerance) for o in outcomes)
    report(f"{passed} of {len(outcomes)} files within {tolerance:g} ({dtype}, {place.type})")
    return passed == len(outcomes)
