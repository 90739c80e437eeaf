"""My rule beside backprop: neurossl run my_rule.py --out RUN"""

import torch
from neurossl.protocols import compare_rules

from neurossl import Credit, Fixation, Rule, Saccade, make_rule, register


@register("stay-or-leave")
class StayOrLeave(Rule):
    """Respond as at the previous fixation, and not as after a saccade; away from the mean, until the margin is reached."""

    needs = frozenset({"lateral context", "neuromodulator"})
    state = {"mean": "population"}

    def credit_at(self, site, moment):
        z = site.activity - site.state["mean"]
        stay = z[moment.require(Fixation, by=self.name).partner]
        leave = z[moment.require(Saccade, by=self.name).negatives[0]]
        gamma = ((z * (stay - leave)).flatten(1).sum(1) < 1).to(z)
        mean = site.state["mean"] + 0.05 * z.mean(0)
        return Credit(torch.einsum("r,r...->r...", gamma, stay - leave), state={"mean": mean})

    def reference(self):
        return make_rule("bp-clapp++")


def run(out: str, *, tiny: bool = False):
    """Compare my rule with backprop of the objective of CLAPP++."""
    return compare_rules.run(out, rules=["stay-or-leave", "bp-clapp++"], network="mlp:64-64-64-64", tiny=tiny)
