"""Checks the files: `python -m explicit.check DIRECTORY [NAME ...]`.

Every weight of every file against judges that use central differences, and the limits in which a rule is another one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from . import further_limits, judges_local, judges_of_credit, judges_of_losses, judges_of_relaxation, judges_top_down, limits
from .judged import Judged
from .make import CASES
from .numeric import Values

JUDGES = judges_local.JUDGES | judges_top_down.JUDGES
JUDGES |= judges_of_losses.JUDGES | judges_of_credit.JUDGES | judges_of_relaxation.JUDGES
LIMITS = {name: (1e-10, function) for name, function in limits.LIMITS.items()}
LIMITS |= {name: (bound, function) for name, bound, function in further_limits.LIMITS}
TOLERANCE = 1e-6


def deviation(got: Values, want: Values) -> float:
    """Largest max|got - want| / max|want| over the arrays; absolute where max|want| < 1e-9."""
    if set(got) != set(want):
        raise ValueError(f"{set(got) ^ set(want)}")
    apart = [0.0]
    for key, value in want.items():
        scale = np.abs(value).max()
        apart.append(np.abs(got[key] - value).max() / (scale if scale > 1e-9 else 1.0))
    return float(np.max(apart))  # of Python's max, NaN would be lost


def check(path: Path) -> tuple[float, float]:
    """Deviations of the changes and of the losses of a file."""
    file = Judged(path)
    params, losses = file.params, []
    for m in range(file.moments):
        update, loss = JUDGES[file.rule](file, params, file.moment(m))
        params = params | {key: params[key] + file.lr * value for key, value in update.items()}
        losses.append(loss)
    changed = {key: params[key] - file.params[key] for key in update}
    wanted = {key.partition("/")[2]: value for key, value in file.arrays.items() if key.startswith("loss/")}
    return deviation(changed, file.change()), deviation({k: np.array([x[k] for x in losses]) for k in losses[0]}, wanted)


def main() -> int:
    """One line per file and per limit; 1 where one deviates."""
    directory, names = Path(sys.argv[1]), sys.argv[2:]
    failures = 0
    computed = {plan.name for plan in CASES}
    for path in sorted(directory.glob("*.npz")):
        if path.stem not in (names or computed):
            continue
        change, loss = check(path)
        agrees = change < TOLERANCE and loss < TOLERANCE
        failures += not agrees
        print(f"{path.stem:40s} change {change:.1e} loss {loss:.1e}{'' if agrees else ' DEVIATES'}", flush=True)
    for name, (bound, limit) in {} if names else LIMITS.items():
        value = limit()
        failures += not value < bound
        print(f"{name:60s} {value:.1e}{'' if value < bound else ' DEVIATES'}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
