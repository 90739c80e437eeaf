"""Limits in which one rule is another, on the networks of the files: exact, without differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .base import Network, Params
from .cases import Case, build, dense_net, draw_labels, draw_params
from .observing import pairs
from .plans import CASES, RULES


def case_of(name: str) -> Case:
    """A case by the name of its file."""
    return build(next(plan for plan in CASES if plan.name == name), RULES)


def updates(rule: str, case: Case, params: Params | None = None, **options: object) -> Params:
    """Updates of the first moment under another rule or other options."""
    return RULES[rule](case.net, case.options | options, case.lr).step(params or case.params, case.moments[0])[0]


def apart(got: Params, want: Params) -> float:
    """Largest relative deviation over the arrays that both have."""
    keys = [key for key in want if key in got]
    assert keys
    # np.max: of Python, NaN would be lost.
    return float(np.max([np.abs(got[key] - want[key]).max() / max(np.abs(want[key]).max(), 1e-9) for key in keys]))


def mirrored(net: Network, params: Params) -> Params:
    """Mirrors that are the transposed weights."""
    paths = [path for path in net.pathways if path.pre != net.input.name]
    return params | {f"weight/{p.post}=>{p.pre}": np.swapaxes(params[f"weight/{p.name}"], 0, 1) for p in paths}


def fa_transposed(name: str, other: str) -> float:
    """fa with B = W^T is bp."""
    case = case_of(name)
    params = mirrored(case.net, case.params)
    return apart(updates(case.rule, case, params), updates(other, case, params))


def dfa_product() -> float:
    """dfa in a linear network with B = (W_L ... W_{l+1})^T is bp."""
    rng = np.random.default_rng(0)
    net = dense_net((6, 5, 4, 3), "linear")
    params = draw_params(net, rng)
    params[f"weight/{net.top.name}=>V2"] = params["weight/V2->V3"].T
    params[f"weight/{net.top.name}=>V1"] = (params["weight/V2->V3"] @ params["weight/V1->V2"]).T
    case = Case("", "", {}, net, params, [draw_labels(net, rng)])
    return apart(updates("dfa", case), updates("bp", case))


def dfa_cells() -> float:
    """dfa with values per cell is dfa with those values repeated over the cell, divided by its size."""
    worst = 0.0
    for name in ("dfa_target_pool_two", "dfa_target_pool_global"):
        case = case_of(name)
        params = dict(case.params)
        for pop in case.net.driven[:-1]:
            c, h, w = pop.shape
            ky, kx = (2, 2) if name.endswith("two") else (h, w)
            rows = params[f"weight/{case.net.top.name}=>{pop.name}"].reshape(c, h // ky, w // kx, -1)
            full = np.zeros((c, h, w, rows.shape[-1]))
            for y in range(h // ky * ky):
                for x in range(w // kx * kx):
                    full[:, y, x] = rows[:, y // ky, x // kx] / (ky * kx)
            params[f"weight/{case.net.top.name}=>{pop.name}"] = full.reshape(c * h * w, -1)
        worst = max(worst, apart(updates("dfa", case, params, target_pool=None), updates("dfa", case)))
    return worst


def pc_still(name: str) -> float:
    """pc without a step: the top learns as in bp, nothing else does."""
    case = case_of(name)
    got, want = updates(case.rule, case, steps=0), updates(case.rule.replace("pc", "bp"), case)
    zero = max(np.abs(got[key]).max() for key in got if "->" in key and not key.endswith(case.net.top.name))
    top = [key for key in want if key.endswith(case.net.top.name) or "=>" in key]
    return max(zero, apart({key: got[key] for key in top}, {key: want[key] for key in top}))


def fixed_exact(name: str, steps: int) -> float:
    """pc-fixed with rate 1 and a step per layer is bp."""
    case = case_of(name)
    return apart(updates("pc-fixed", case, rate=1.0, steps=steps), updates("bp", case))


def fixed_converges() -> float:
    """pc-fixed with rate 0.1 comes to bp."""
    case = case_of("pc-fixed_seven_slow_steps")
    return apart(updates("pc-fixed", case, steps=500), updates("bp", case))


def fixed_by_hand() -> float:
    """After n steps of rate r the error one below the top is 1 - (1 - r)^n of its end: a step more or fewer shows."""
    case = case_of("pc-fixed_seven_slow_steps")
    got, want = updates("pc-fixed", case)["weight/V2->V3"], updates("bp", case)["weight/V2->V3"]
    return float(np.abs(got - (1 - 0.9**7) * want).max() / np.abs(want).max())


def conventions() -> float:
    """In a linear network values before and after the transfer are the same."""
    case = case_of("pc_five_steps")
    for pop in case.net.driven:
        pop.transfer = "linear"
    return apart(updates("pc", case, values="drive"), updates("pc", case))


def mirrors_as_weights() -> float:
    """pc whose mirrors are the transposed weights is pc."""
    case = case_of("pc_feedback_fixed")
    params = mirrored(case.net, case.params)
    return apart(updates("pc", case, params, feedback="transposed"), updates("pc", case, params))


def at_the_top() -> float:
    """clapp-dfb, clapp++gap and bp-clapp have the same loss at the top."""
    case = case_of("clapp++gap_dense")
    top = f"->{case.net.top.name}"
    wanted = {k: v for k, v in updates("clapp++gap", case).items() if k.endswith(top)}
    return apart(updates("bp-clapp++", case), wanted)


def both_is_a_sum() -> float:
    """clapp++both is clapp++dfb plus clapp++, in the feedforward weights."""
    case = case_of("clapp++both_cells")
    top = case.net.top.name
    params = case.params | {f"weight/{top}=>{top}:lateral": case.params[f"weight/{top}=>{top}"]}
    one, other = updates("clapp++dfb", case, params), updates("clapp++", case, params)
    total = {key: one[key] + other[key] for key in one if "->" in key}
    return apart(updates("clapp++both", case, params), total)


def optimal_is_right() -> float:
    """B = W^T B_top above a linear top makes local and backprop's credit equal: the optimal rule then leaves B alone."""
    rng = np.random.default_rng(3)
    net = dense_net((6, 5, 4), "linear")
    rule = RULES["clapp-optimal"](net, {"contrast": "softplus"})
    params = draw_params(net, rng, 1.2, rule.shapes())
    params["bias/V1->V2"] = np.zeros(4)
    params["weight/V2=>V1"] = params["weight/V1->V2"].T @ params["weight/V2=>V2"]
    update, _ = rule.step(params, pairs(net, rng))
    return float(np.abs(update["weight/V2=>V1"]).max())


LIMITS: dict[str, Callable[[], float]] = {
    "fa with transposed weights is bp": lambda: fa_transposed("fa_dense", "bp"),
    "fa with transposed weights is bp (maps)": lambda: fa_transposed("fa_map", "bp"),
    "fa-clapp with transposed weights is bp-clapp (maps)": lambda: fa_transposed("fa-clapp_map", "bp-clapp++"),
    "dfa with the product of the weights, linear, is bp": dfa_product,
    "dfa per cell is dfa with repeated rows": dfa_cells,
    "pc without steps is bp at the top alone": lambda: pc_still("pc_five_steps"),
    "pc without steps is bp at the top alone (maps)": lambda: pc_still("pc_map"),
    "pc-clapp without steps is bp-clapp at the top": lambda: pc_still("pc-clapp_dense"),
    "pc-infonce without steps is bp-infonce at the top": lambda: pc_still("pc-infonce_dense"),
    "pc-fixed, rate 1, is bp": lambda: fixed_exact("pc-fixed_exact", 4),
    "pc-fixed, rate 1 and a step less than layers, is bp": lambda: fixed_exact("pc-fixed_exact", 3),
    "pc-fixed, rate 1, is bp (maps)": lambda: fixed_exact("z-il_map", 3),
    "pc-fixed, slow, converges to bp": fixed_converges,
    "pc-fixed, slow, after seven steps": fixed_by_hand,
    "z-il is bp": lambda: apart(updates("z-il", case_of("z-il_dense")), updates("bp", case_of("z-il_dense"))),
    "z-il is bp (maps)": lambda: apart(updates("z-il", case_of("z-il_map")), updates("bp", case_of("z-il_map"))),
    "pc: both conventions, linear": conventions,
    "pc with transposed mirrors is pc": mirrors_as_weights,
    "clapp++gap at the top is bp-clapp": at_the_top,
    "clapp++both is a sum": both_is_a_sum,
    "clapp-optimal leaves a perfect prediction alone": optimal_is_right,
}
