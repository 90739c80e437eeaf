"""What the limits of rules need: a case's updates under changed options, and numerical backprop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .base import Network, Params, forward
from .cases import Case, Moment, build
from .further_plans import CASES, RULES
from .neurons import Array
from .shared import cross_entropy


def case_of(name: str) -> Case:
    """A case by the name of its file."""
    return build(next(plan for plan in CASES if plan.name == name), RULES)


def updates(
    case: Case, params: Params, net: Network | None = None, moment: Moment | None = None, **options: object
) -> Params:
    """Updates of the first moment under changed options."""
    rule = RULES[case.rule](net or case.net, case.options | options, case.lr)
    return rule.step(params, moment or case.moments[0])[0]


def backprop(case: Case, loss: Callable[[Array], float], step: float = 1e-5) -> Params:
    """Minus the numerical gradient of a loss of the top's activity, for all feedforward parameters."""
    out: Params = {}
    for path in case.net.pathways:
        for key in (f"weight/{path.name}", f"bias/{path.name}"):
            out[key] = np.zeros_like(case.params[key])
            for index in np.ndindex(out[key].shape):
                ends = []
                for sign in (1, -1):
                    moved = case.params[key].copy()
                    moved[index] += sign * step
                    sweep = forward(case.net, case.params | {key: moved}, case.moments[0]["stimulus"])
                    ends.append(loss(sweep.activity[case.net.top.name]))
                out[key][index] = -(ends[0] - ends[1]) / (2 * step)
    return out


def supervised(case: Case) -> Params:
    """Backprop of the mean cross-entropy."""
    return backprop(case, lambda z: cross_entropy(z, case.moments[0]["labels"])[0].mean())


def apart(got: Params, want: Params) -> float:
    """Largest deviation relative to the largest value of each array, over the arrays in `want`."""
    # np.max: of Python, NaN would be lost.
    return float(np.max([np.abs(got[k] - w).max() / max(np.abs(w).max(), 1e-12) for k, w in want.items()]))
