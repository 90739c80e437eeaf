"""How close is each local rule to backprop, and does it buy a better representation? (the main job)

Every rule learns in the same network, from the same initial feedforward weights and the same views of the same images, for
the same number of observations. Recorded: how well each proposed update is aligned with the backprop-derived one of the
same objective, the weights, the activity, and what a linear readout finds in every population before and after learning.
"""

from collections.abc import Sequence
from typing import Any, Unpack

import analysis
from neurossl.plasticity import Rule, Synapses
from protocols.harness.experiment import Experiment
from protocols.harness.learning import learning_trial, twins_of_references
from protocols.harness.options import defaults
from protocols.harness.references import common_reference
from protocols.harness.rules import ChosenRule, canonical, choose_rules, with_every_rule
from protocols.harness.settings import settle
from protocols.harness.shared import Batched, reject_unknown
from protocols.harness.trial import network_for

DEFAULT_RULES = ("clapp++", "clapp++dfb", "ff", "dfa", "pc", "bp-clapp++", "bp")
LABELS = {
    "clapp": "CLAPP",
    "clapp-s": "CLAPP-s",
    "clapp-dfb": "CLAPP++DFB without spatial dependence",
    "clapp++": "CLAPP++",
    "clapp++dfb": "CLAPP++DFB",
    "clapp++both": "CLAPP++both",
    "clapp++gap": "CLAPP++ without spatial dependence",
    "clapp-fixed": "CLAPP++DFB without spatial dependence (random fixed feedback)",
    "clapp++fixed": "CLAPP++DFB (random fixed feedback)",
    "clapp-optimal": "CLAPP++DFB without spatial dependence (feedback taught by BP)",
    "clapp++optimal": "CLAPP++DFB (feedback taught by BP)",
    "ff": "FF (label in the image)",
    "ff-hybrid": "FF (hybrid negatives)",
    "phyll": "FF (paired goodness)",
    "clapp-phyll": "CLAPP++ without spatial dependence (contrast of PhyLL)",
    "scff": "SCFF",
    "infonce-local": "InfoNCE, local",
    "barlow-local": "Barlow Twins, local",
    "vicreg-local": "VICReg, local",
    "lpl": "LPL",
    "rpl": "RPL (prediction of the next response)",
    "softhebb": "SoftHebb",
    "mono-forward": "Mono-Forward, supervised",
    "dfa": "DFA, supervised",
    "fa": "FA, supervised",
    "fa-sign": "FA with the signs of the weights, supervised",
    "fa-kp": "FA, feedback learned (Kolen-Pollack), supervised",
    "dual-prop": "Dual propagation, supervised",
    "epc": "PC, errors optimised, supervised",
    "dfa-pc": "PC from direct feedback, supervised",
    "blocks-clapp": "CLAPP in blocks of two",
    "pc": "PC, supervised",
    "bp-clapp++": "BP-CLAPP++",
    "bp-clapp++spatial": "BP-CLAPP++ with spatial dependence",
    "bp-clapp++both": "BP-CLAPP++both",
    "bp-hinge-cpc": "BP-Hinge-CPC",
    "bp-infonce": "BP-InfoNCE",
    "bp-infonce-held": "BP-InfoNCE, context held",
    "bp-barlow": "BP-Barlow",
    "bp-ff": "BP-FF",
    "bp": "BP, supervised",
}
CONTRASTIVE_RATES, SUPERVISED_RATES, GOODNESS_RATES = (3e-4, 3e-3), (1e-3, 1e-3), (3e-3, 3e-3)
RATES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("clapp", "clapp-s", "clapp-dfb", "clapp-fixed", "clapp-optimal", "bp-hinge-cpc"), CONTRASTIVE_RATES),
    **dict.fromkeys(("clapp++", "clapp++dfb", "clapp++both", "clapp++gap"), CONTRASTIVE_RATES),
    **dict.fromkeys(("clapp++fixed", "clapp++optimal", "clapp-phyll"), CONTRASTIVE_RATES),
    **dict.fromkeys(("bp-clapp++", "bp-clapp++spatial", "bp-clapp++both"), CONTRASTIVE_RATES),
    **dict.fromkeys(("ff", "ff-hybrid", "bp-ff", "bp"), GOODNESS_RATES),
    **{"vicreg-local": (1e-2, 1e-2), "lpl": (1e-2, 1e-2), "rpl": (3e-4, 3e-3), "softhebb": (3e-4, 3e-4)},
    **{"barlow-local": (1e-3, 1e-3), "bp-barlow": (1e-3, 1e-3), "infonce-local": (1e-3, 1e-3), "mono-forward": (3e-3, 3e-2)},
    **{"fa-sign": (3e-3, 3e-3), "dual-prop": (3e-3, 3e-3), "fa-kp": (3e-3, 3e-2), "epc": (3e-4, 3e-4)},
    **{"blocks-clapp": (1e-3, 1e-2)},
}
"""Learning rates of AdamW, of the feedforward and of the prediction weights, where they differ from `SUPERVISED_RATES`:
the best of a small grid on the digits. Prediction weights that learn ten times faster keep up with what they predict;
direct feedback and backprop of the contrastive top profit most.

Those of the last four lines have the highest accuracy of a linear readout of V4 on a fifth of the training images that were
held out, mean of seeds 100 and 101, in a grid of 3e-4, 1e-3, 3e-3, 1e-2 for the feedforward weights and once or ten times as
much for feedback weights; untrained 77 %: barlow-local 76, vicreg-local 80, lpl 84, rpl 72, softhebb 71, mono-forward 96,
infonce-local 95, bp-barlow 93. VICReg and LPL are best at the upper end of the grid; RPL and SoftHebb at its lower end, and
no rate makes them better than the weights that they begin with: RPL has no negatives, and its responses become all the same.
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "pc": {"steps": 6, "rate": 0.05},
    "ipc": {"steps": 6, "rate": 0.05},
    "epc": {"steps": 5, "rate": 0.005},
    "dfa-pc": {"steps": 20, "rate": 0.1},
    "softhebb": {"temperature": 256},
}
"""Options of rules that differ from their defaults: short settling in small steps, which the budget of time asks for, and in
which predictive coding is close to backprop (its label says so; `ssl_credit_assignment` settles longer). Where errors are
optimised or set directly, the less of them is still sent upwards when populations learn, the better. A harder competition
of softhebb (of 1, 4, 16, 64, 256, in the same search): with a factor of 1 to 4 every one of 256 neurons loses almost always,
and all fall silent."""
USUAL = {"dataset": "digits", "network": 256, "budget": 360, "observers": 128, "seeds": 3}
TINY = {"network": "mlp:32-32-32-32", "budget": 8, "observers": 32, "seeds": 1}


@defaults(**USUAL)
def run(
    out: str,
    *,
    rules: Sequence[str | Rule] | None = None,
    lr: float | None = None,
    reference: str | None = None,
    **common: Unpack[Batched],
) -> analysis.Results:
    """Compare plasticity rules with backprop on the same images, network and budget.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    rules : sequence of str or Rule, optional
        Names of rules (see neurossl rules), NAME:OPTION=VALUE, FILE.py:CLASS, or all: every rule that can learn here.
    lr : float, optional
        Learning rate of every rule, instead of the tuned ones.
    reference : str, optional
        Compare all rules with this one, backprop of one objective (bp-clapp++, bp-infonce, ...) at the highest population
        that all networks have; each with backprop of its own objective by default. Rules that are not shown what the
        objective needs have no cosines.
    **common
        See `protocols.harness.shared.Batched`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Batched)
    if lr is not None:
        Synapses(lr=lr)
    setting = settle(out, "compare_rules", common, USUAL, TINY)
    asked = None if rules is None else [canonical(rule) for rule in rules]
    if asked is not None:
        asked = with_every_rule(asked, lambda rule: network_for(rule, setting.images, setting.network), OPTIONS)
    chosen = choose_rules(setting.choose("rules", asked, DEFAULT_RULES), OPTIONS, asked or ())
    labels = {rule.name: _label(rule) for rule in chosen}
    reference = setting.stored.get("reference") if reference is None else reference
    compared = {}
    if reference is not None:
        made = {labels[rule.name]: rule.make() for rule in chosen}
        compared = common_reference(reference, made, setting.images, setting.network, OPTIONS)
    recorded: dict[str, Any] = {"records": 4 if setting.tiny else 20, "read": (200, 100) if setting.tiny else (5000, 2000)}
    trials = [
        learning_trial(
            setting,
            rule.name,
            labels[rule.name],
            rule.make(),
            seed,
            rates,
            reference=compared.get(labels[rule.name]),
            **recorded,
        )
        for rule in chosen
        for rates in [_rates(rule, lr)]
        for seed in setting.seeds
    ]
    trials += twins_of_references(setting, trials)
    files = {rule.key: rule.digest for rule in chosen if rule.digest}
    own: dict[str, Any] = {"reference": reference} if reference is not None else {}
    own |= {"rule_files": files} if files else {}
    options = setting.options(lr=lr, rules=[rule.key for rule in chosen], **own)
    with Experiment(setting, options, trials) as experiment:
        experiment.learn()
        return experiment.report(lambda runs: analysis.summarise(runs, "compare_rules", options=options))


def _label(rule: ChosenRule) -> str:
    """Return what people call a rule; of one that settles, how, where that has not been chosen."""
    label, usual = LABELS.get(rule.base, rule.base) + rule.suffix, OPTIONS.get(rule.base, {})
    return label if rule.suffix or "steps" not in usual else f"{label} ({usual['steps']} steps of {usual['rate']:g})"


def _rates(rule: ChosenRule, lr: float | None) -> tuple[float, float]:
    """Return the learning rates of a rule: its own, those of all, or the tuned ones."""
    rate = lr if rule.rate is None else rule.rate
    return RATES.get(rule.base, SUPERVISED_RATES) if rate is None else (rate, rate)
