"""Checks the files of the newer rules: `python -m explicit.check_newer DIRECTORY`.

Every weight of every file against judges that use central differences, then the limits in which a rule is another one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from . import judges_of_credit, judges_of_losses, judges_of_relaxation
from .limits_newer import LIMITS
from .numeric import File, Values

JUDGES = judges_of_losses.JUDGES | judges_of_credit.JUDGES | judges_of_relaxation.JUDGES


def deviation(got: Values, want: Values) -> float:
    """Largest max|got - want| / max|want| over the arrays; absolute where max|want| < 1e-12."""
    worst = 0.0
    if set(got) != set(want):
        raise ValueError(f"{set(got) ^ set(want)}")
    for key, value in want.items():
        scale = np.abs(value).max()
        worst = max(worst, np.abs(got[key] - value).max() / (scale if scale > 1e-12 else 1.0))
    return worst


def check(path: Path) -> tuple[float, float]:
    """Deviations of the changes and of the losses of a file."""
    file = File(path)
    params, losses = file.params, []
    for m in range(file.moments):
        update, loss = JUDGES[file.rule](file, params, file.moment(m))
        params = params | {key: params[key] + file.lr * value for key, value in update.items()}
        losses.append(loss)
    changed = {key: params[key] - file.params[key] for key in update}
    wanted = {k[5:]: v for k, v in file.arrays.items() if k.startswith("loss/")}
    return (
        deviation(changed, file.change()),
        deviation({k: np.array([x[k] for x in losses]) for k in losses[0]}, wanted),
    )


def verdict(value: float, tolerance: float) -> str:
    """Nothing where all is well."""
    return "" if value < tolerance else "DEVIATES"


def main() -> None:
    """One line per file."""
    for path in sorted(Path(sys.argv[1]).glob("*.npz")):
        if File(path).rule in JUDGES:
            change, loss = check(path)
            print(f"{path.stem:32s} change {change:.1e} loss {loss:.1e} {verdict(max(change, loss), 1e-6)}", flush=True)
    for name, tolerance, function in LIMITS:
        value = function()
        print(f"{name:54s} {value:.1e} {verdict(value, tolerance)}", flush=True)


if __name__ == "__main__":
    main()
