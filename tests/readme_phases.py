import torch

from neurossl import Credit, Fixation, Rule, Teaching


class EquilibriumPropagation(Rule):
    """dW = (s s_pre nudged - s s_pre free) / beta (Scellier & Bengio 2017), for populations with an activity of tanh."""

    needs = frozenset({"settling", "phases", "target", "weight transport"})
    awaits = (Fixation, Teaching)
    steps, rate = 25, 0.5

    def __init__(self, beta=0.1):
        self.beta = beta

    def settling(self, scope, moment):
        labels = moment.require(Teaching, by=self.name).labels
        s = {name: scope.site(name).activity for name in scope.populations}
        target = torch.eye(s[scope.top].shape[1]).to(s[scope.top])[labels]
        for phase, pull in (("free", 0.0), ("nudged", self.beta)):
            s = self.relaxed(scope, s, pull, target)
            yield scope.predict(s, phase=phase)

    def relaxed(self, scope, s, pull, target):
        """Return where s <- s + rate (-s + rho(drive from below + W^T from above) + pull (target - s) at the top) goes."""
        for _ in range(self.steps):
            seen = scope.predict(s)
            drive = {name: seen.site(name).drive for name in s}
            for pathway in (p for name in s for p in seen.below(name) if p.pre in s):
                drive[pathway.pre] = drive[pathway.pre] + seen.transport(pathway, s[pathway.post])
            aim = {name: drive[name] if name == scope.top else drive[name].tanh() for name in s}
            aim[scope.top] = aim[scope.top] + pull * (target - s[scope.top])
            s = {name: s[name] + self.rate * (aim[name] - s[name]) for name in s}
        return s

    def credit_at(self, site, moment):
        sign = 1 if site.phase == "nudged" else -1
        return Credit(somatic=sign / self.beta * site.value)
