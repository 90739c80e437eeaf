"""Credit from an objective at the top: backprop, feedback alignment (FA, Lillicrap 2016), direct (DFA, Nokland 2016).

FA carries the credit down through a mirror pathway "V2=>V1" instead of W^T; DFA sends the credit of the top straight to
every population, "V3=>V1". The top itself learns with its true gradient.
"""

from __future__ import annotations

import numpy as np

from .base import Network, Params, Pathway, Population, backward, learn, to_drive
from .cases import Moment, Outcome, Rule
from .clapp import Published
from .contrastive import Contrastive
from .goodness import Goodness
from .infonce import HeldInfoNCE, InfoNCE
from .neurons import Array, softmax, spread, windows
from .prediction import cells_of
from .shared import join, pool, two_views, unpool_globally
from .statistics import BarlowLocal


class Supervised:
    """Cross-entropy of the softmax of the top's activity, or 1/2 |onehot - z|^2."""

    def __init__(self, net: Network, options: dict, pop: Population):
        self.pop, self.squared = pop, options.get("objective", "cross-entropy") == "squared-error"

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """No pathways of its own."""
        return {}

    def evaluate(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """Credit onehot - softmax(z) or onehot - z, times gain / rows."""
        z, labels = activity[self.pop.name], moment["labels"]
        weight = moment.get("gain", np.ones(len(z))) / len(z)
        wanted = np.eye(z.shape[1])[labels]
        if self.squared:
            losses, error = 0.5 * ((wanted - z) ** 2).sum(axis=1), wanted - z
        else:
            share = softmax(z)
            losses, error = -np.log(share[np.arange(len(z)), labels]), wanted - share
        return Outcome(float((weight * losses).sum()), weight[:, None] * error, {})


class Both(Contrastive):
    """Both families of contexts, in cells: at the top two scores from the top."""

    def __init__(self, net: Network, options: dict, pop: Population):
        super().__init__(net, options, pop, "both", "spatial")


class Spatial(Contrastive):
    """The lateral context, in cells."""

    def __init__(self, net: Network, options: dict, pop: Population):
        super().__init__(net, options, pop, "lateral", "spatial")


class HingeCPC:
    """CLAPP as published at the top alone."""

    def __init__(self, net: Network, options: dict, pop: Population):
        self.rule, self.pop = Published(net, options), pop

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """B_k and R_k of the top."""
        return {name: shape for name, shape in self.rule.shapes().items() if name.startswith(f"{self.pop.name}=>")}

    def evaluate(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """Both branches of every step."""
        return self.rule.evaluate(params, moment, self.pop, activity[self.pop.name])


class Barlow:
    """Barlow Twins at the top alone."""

    def __init__(self, net: Network, options: dict, pop: Population):
        self.rule, self.pop = BarlowLocal(net, options), pop

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """No pathways of its own."""
        return {}

    def evaluate(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """Credit on the pooled response of both views."""
        z = activity[self.pop.name]
        first, second = two_views(moment["partner"])
        loss, one, two = self.rule.objective(pool(z)[first], pool(z)[second])
        return Outcome(loss, unpool_globally(join(first, second, one, two), z), {})


OBJECTIVES = {"": Supervised, "clapp": Contrastive, "clapp++": Contrastive, "ff": Goodness, "infonce": InfoNCE}
OBJECTIVES |= {"clapp++both": Both, "clapp++spatial": Spatial, "hinge-cpc": HingeCPC, "barlow": Barlow}
OBJECTIVES |= {"infonce-held": HeldInfoNCE}


def mirror_name(path: Pathway) -> str:
    """Such as V2=>V1, beside V1->V2."""
    return f"{path.post}=>{path.pre}"


class TopDown(Rule):
    """Backprop of an objective at the top, through all layers."""

    kind = ""

    def __init__(self, net: Network, options: dict, lr: float = 1.0):
        super().__init__(net, options, lr)
        self.objective = OBJECTIVES[self.kind](net, options, net.top)
        self.hidden = [path for path in net.pathways if path.pre != net.input.name]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of the objective."""
        return self.objective.shapes()

    def mirror_shapes(self) -> dict[str, tuple[int, ...]]:
        """Mirrors of all feedforward pathways not from the input: (pre, post[, ky, kx])."""
        shapes = {mirror_name(path): self.net.weight_shape(path) for path in self.hidden}
        return {name: (shape[1], shape[0], *shape[2:]) for name, shape in shapes.items()}

    def mirrors(self, params: Params) -> Params:
        """Weights of the mirrors by feedforward pathway, shaped like the feedforward weights."""
        return {path.name: np.swapaxes(params[f"weight/{mirror_name(path)}"], 0, 1) for path in self.hidden}

    def objective_at(self, params: Params, moment: Moment, activity: Params) -> Outcome:
        """The objective, with the distances from its gates noted."""
        outcome = self.objective.evaluate(params, moment, activity)
        if outcome.distances:
            self.watch(np.concatenate(outcome.distances))
        return outcome

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Updates from the credit that arrives everywhere."""
        sweep = self.sweep(params, moment["stimulus"])
        outcome = self.objective_at(params, moment, sweep.activity)
        update, _ = backward(self.net, params, sweep, {self.net.top.name: outcome.credit}, self.carriers(params))
        return update | outcome.update, {self.net.top.name: outcome.loss}

    def carriers(self, params: Params) -> Params | None:
        """Backprop carries credit through the weights themselves."""
        return None


class FeedbackAlignment(TopDown):
    """Credit comes down through fixed mirrors."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Also the mirrors."""
        return super().shapes() | self.mirror_shapes()

    def carriers(self, params: Params) -> Params:
        """The mirrors."""
        return self.mirrors(params)


class DirectFeedback(TopDown):
    """Credit comes straight from the top; option target_pool "global" or a kernel: one value per cell of the target."""

    def cells(self, pop: Population) -> tuple[int, int] | None:
        """Kernel of the cells at a target, None for every value by itself."""
        pool = self.options.get("target_pool")
        if pool is None or len(pop.shape) == 1:
            return None
        return pop.shape[1:] if pool == "global" else (pool, pool)

    @property
    def senders(self) -> tuple[int, int, int]:
        """What the top sends: its channels, and the cells of its objective; the whole map is one by default."""
        top, kernel = self.net.top, getattr(self.objective, "kernel", None)
        return cells_of(top, kernel or (None if len(top.shape) == 1 else top.shape[1:]))

    def direct_shapes(self) -> dict[str, tuple[int, ...]]:
        """B: (values or cells of the target, units of the top, or its channels times the cells of its objective)."""
        below = [pop for pop in self.net.driven if pop is not self.net.top]
        rows = {pop.name: int(np.prod(cells_of(pop, self.cells(pop)))) for pop in below}
        return {f"{self.net.top.name}=>{name}": (count, int(np.prod(self.senders))) for name, count in rows.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Also the direct pathways."""
        return super().shapes() | self.direct_shapes()

    def deliver(self, params: Params, pop: Population, error: Array) -> Array:
        """B e at a population, in the shape of its activity."""
        credit, kernel = error @ params[f"weight/{self.net.top.name}=>{pop.name}"].T, self.cells(pop)
        if kernel is None:
            return credit.reshape(len(credit), *pop.shape)
        _, height, width = pop.shape
        return spread(credit.reshape(len(credit), *cells_of(pop, kernel)), kernel, height, width)

    def step(self, params: Params, moment: Moment) -> tuple[Params, dict[str, float]]:
        """Every population below the top from B e, e the credit on the top summed over the locations of a cell."""
        sweep, top = self.sweep(params, moment["stimulus"]), self.net.top
        outcome = self.objective_at(params, moment, sweep.activity)
        error = outcome.credit
        if error.ndim == 4:
            _, high, wide = self.senders
            error = windows(error, (top.shape[1] // high, top.shape[2] // wide)).sum(axis=-1).reshape(len(error), -1)
        update = dict(outcome.update)
        for pop in self.net.driven:
            credit = outcome.credit if pop is top else self.deliver(params, pop, error)
            update |= learn(self.net, sweep, pop.name, to_drive(pop, sweep.drive[pop.name], credit))
        return update, {top.name: outcome.loss}


def of(base: type[TopDown], kind: str) -> type[TopDown]:
    """A top-down rule with another objective."""
    return type(f"{base.__name__}{kind}", (base,), {"kind": kind})


RULES = {"bp": TopDown, "fa": FeedbackAlignment, "dfa": DirectFeedback}
RULES |= {f"bp-{kind}": of(TopDown, kind) for kind in OBJECTIVES if kind}
RULES |= {"fa-clapp": of(FeedbackAlignment, "clapp")}
RULES |= {f"dfa-{kind}": of(DirectFeedback, kind) for kind in ("clapp", "infonce")}
