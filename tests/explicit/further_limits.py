"""Limits in which a rule that the field compares is another one, as (name, tolerance, function that gives the deviation)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from . import alignment, contrastive, predictive
from .base import Network, forward
from .cases import dense_net
from .limit_tools import apart, backprop, case_of, supervised, updates
from .neurons import Array, slope


def dual(name: str) -> float:
    """Beta to 0: backprop."""
    case = case_of(name)
    return apart(updates(case, case.params, beta=1e-3), supervised(case))


def feedback(name: str) -> float:
    """Mirrors of the right magnitudes (fa-sign) or equal to the transposed weights (fa-kp): backprop."""
    case = case_of(name)
    params = dict(case.params)
    for path in case.net.pathways:
        if path.pre != case.net.input.name:
            transposed = params[f"weight/{path.name}"].swapaxes(0, 1)
            params[f"weight/{path.post}=>{path.pre}"] = np.abs(transposed) if case.rule == "fa-sign" else transposed
    return apart(updates(case, params), supervised(case))


def error_optimised(name: str) -> float:
    """One small step: rate times backprop below the top, backprop at the top."""
    case, rate = case_of(name), 1e-7
    got = updates(case, case.params, steps=1, rate=rate)
    top = case.net.top.name
    return apart({k: v if k.endswith(f"->{top}") else v / rate for k, v in got.items()}, supervised(case))


def whole(name: str) -> float:
    """One block of all populations: backprop of the top's contrastive loss, contexts held."""
    case = case_of(name)
    moment, top = case.moments[0], case.net.top.name
    held = forward(case.net, case.params, moment["stimulus"]).activity[top] @ case.params[f"weight/{top}=>{top}"].T

    def loss(z: Array) -> float:
        positive = np.maximum(0, 1 - (z[moment["partner"]] * held).sum(axis=1))
        negative = np.mean([np.maximum(0, 1 + (z[n] * held).sum(axis=1)) for n in moment["negatives"]], axis=0)
        return (positive + negative).mean()

    return apart(updates(case, case.params, size=len(case.net.driven)), backprop(case, loss))


def alone(name: str) -> float:
    """Blocks of one: each population as if it were a network of its own on the activity below."""
    case = case_of(name)
    sweep = forward(case.net, case.params, case.moments[0]["stimulus"])
    got, worst = updates(case, case.params, size=1), 0.0
    for path in case.net.pathways:
        pre, post = replace(case.net[path.pre], neurons=case.net[path.pre].shape, pooling=None), case.net[path.post]
        moment = case.moments[0] | {"stimulus": sweep.activity[path.pre]}
        want = updates(case, case.params, Network([pre, post], [path]), moment, size=1)
        worst = max(worst, apart(got, want))
    return worst


def direct(name: str) -> float:
    """No steps: direct feedback alignment, row by row (dense)."""
    case = case_of(name)
    moment, want = case.moments[0], {}
    sweep = forward(case.net, case.params, moment["stimulus"])
    top = case.net.top.name
    for path in case.net.pathways:
        pop, rows = case.net[path.post], []
        for r, label in enumerate(moment["labels"]):
            z = sweep.activity[top][r]
            error = np.eye(len(z))[label] - np.exp(z) / np.exp(z).sum()
            credit = error if pop.name == top else case.params[f"weight/{top}=>{pop.name}"] @ error
            rows.append(np.outer(credit * slope(pop.transfer, sweep.drive[pop.name][r]), sweep.activity[path.pre][r]))
        want[f"weight/{path.name}"] = np.mean(rows, axis=0)
    return apart(updates(case, case.params, steps=0), want)


def same_as(name: str, other: str, options: dict, **own: object) -> float:
    """A rule of the other families on the same moment; feedback from the top off where that rule has none."""
    case = case_of(name)
    rule = (alignment.RULES | contrastive.RULES | predictive.RULES)[other](case.net, options, case.lr)
    off = {} if other != "pc" else {key: 0 * case.params[key] for key in case.params if "=>" in key}
    want = rule.step(case.params, case.moments[0])[0]
    return apart(updates(case, case.params | off, **own), want)


def winner(name: str) -> float:
    """Temperature to infinity: the winner takes all, nobody else learns."""
    case = case_of(name)
    sweep, want = forward(case.net, case.params, case.moments[0]["stimulus"]), {}
    for path in case.net.pathways:
        w = case.params[f"weight/{path.name}"]
        total = np.zeros_like(w)
        for u, x in zip(sweep.drive[path.post], sweep.activity[path.pre], strict=True):
            total[u.argmax()] += (x - u.max() * w[u.argmax()]) / len(sweep.drive[path.post])
        want[f"weight/{path.name}"] = total
    return apart(updates(case, case.params, temperature=1e6, adaptive=False), want)


def linear_chain() -> float:
    """dfa-pc, a linear network, B = the product of the transposed weights above, no steps: backprop."""
    case = case_of("dfa_pc_no_steps")
    case = replace(case, net=dense_net(tuple(p.size for p in case.net.populations), "linear"))
    w2, w3 = (case.params[f"weight/{name}"] for name in ("V1->V2", "V2->V3"))
    params = case.params | {f"weight/{case.net.top.name}=>V2": w3.T, f"weight/{case.net.top.name}=>V1": w2.T @ w3.T}
    return apart(updates(case, params, steps=0), supervised(case))


LIMITS: list[tuple[str, float, Callable[[], float]]] = [
    ("dual-prop, beta to 0, is bp (dense)", 1e-6, lambda: dual("dual_prop_dense")),
    ("dual-prop, beta to 0, is bp (map)", 1e-6, lambda: dual("dual_prop_map")),
    ("fa-sign with |B| = |W| is bp (dense)", 1e-6, lambda: feedback("fa_sign_dense")),
    ("fa-sign with |B| = |W| is bp (map)", 1e-6, lambda: feedback("fa_sign_map")),
    ("fa-kp with B = W^T is bp (map)", 1e-6, lambda: feedback("fa_kp_map")),
    ("epc, one small step, is bp up to the rate (dense)", 1e-6, lambda: error_optimised("epc_one_step")),
    ("epc, one small step, is bp up to the rate (map)", 1e-6, lambda: error_optimised("epc_map")),
    ("blocks of all populations are bp", 1e-6, lambda: whole("blocks_clapp_size_2")),
    ("blocks of one are local", 1e-12, lambda: alone("blocks_clapp_size_1")),
    ("blocks of one are local (map)", 1e-12, lambda: alone("blocks_clapp_map_size_1")),
    ("dfa-pc without steps is dfa", 1e-12, lambda: direct("dfa_pc_no_steps")),
    ("dfa-pc without steps, B = W^T W^T, linear, is bp", 1e-6, linear_chain),
    ("dfa-pc without steps is the other module's dfa (map)", 1e-12, lambda: same_as("dfa_pc_map", "dfa", {}, steps=0)),
    ("dfa-pc with B = 0 is pc", 1e-12, lambda: same_as("dfa_pc_settled", "pc", {"steps": 3, "rate": 0.1})),
    ("dfa-pc with B = 0 is pc (map)", 1e-12, lambda: same_as("dfa_pc_map", "pc", {"steps": 3, "rate": 0.1})),
    ("blocks of one are clapp++gap", 1e-12, lambda: same_as("blocks_clapp_size_1", "clapp++gap", {})),
    ("blocks of one are clapp++gap (map)", 1e-12, lambda: same_as("blocks_clapp_map_size_1", "clapp++gap", {})),
    ("softhebb, cold: the winner takes all", 1e-9, lambda: winner("softhebb_dense")),
]
