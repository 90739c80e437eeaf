"""Writes the reference files: `python -m explicit.make DIRECTORY [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

from . import further_plans, plans
from .cases import Rule, build, write

RULES: dict[str, type[Rule]] = plans.RULES | further_plans.RULES
CASES = plans.CASES + further_plans.CASES


def main() -> None:
    """Writes the named files, or all."""
    directory, names = Path(sys.argv[1]), sys.argv[2:]
    directory.mkdir(parents=True, exist_ok=True)
    for plan in CASES:
        if not names or plan.name in names:
            path = write(directory, build(plan, RULES))
            print(f"{path.stat().st_size:6d}  {path.name}")


if __name__ == "__main__":
    main()
