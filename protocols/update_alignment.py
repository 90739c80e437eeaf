"""How does the alignment with backprop depend on who predicts? Lateral, direct, optimal and random fixed feedback.

Figures 3b and 4c of arXiv 2601.21683: in a network of dense populations and in the six-layer convolutional network, the
cosine of the local with the backprop-derived update of every pathway, while learning goes on, for four kinds of feedback:

    lateral    c is the population's own response to the other view, B learns by its own loss   (CLAPP, CLAPP++)
    direct     c is the response of the top                                                     (DFB)
    optimal    direct, and B is taught to make the local credit equal to backprop's             (a control, not local)
    random     direct, and B stays as it was drawn below the top

Both networks score the top as backprop's objective does: one cell at the top of the maps. As in figure 3b, f is the softplus
and the encoder learns slowly: backprop's credit is a moving target for predictions that are taught to match it.
"""

from collections.abc import Sequence
from typing import Unpack

import analysis
from neurossl.anatomy.architectures import from_description
from neurossl.errors import OptionError
from neurossl.plasticity import make_rule
from protocols.alignment.results import label_of, results_of
from protocols.harness.checks import different
from protocols.harness.experiment import Experiment
from protocols.harness.learning import learning_trial
from protocols.harness.options import defaults
from protocols.harness.rules import safe_name
from protocols.harness.settings import settle
from protocols.harness.shared import Observed, reject_unknown

FEEDBACK = {"lateral": "clapp++", "direct": "clapp++dfb", "optimal": "clapp++optimal", "random": "clapp++fixed"}
NETWORKS = ("mlp:128-128-128-128-128-128", "vgg6:0.0625")
TINY_NETWORKS = ("mlp:24-24-24", "conv:4M-6M-6")
USUAL = {"dataset": "digits", "budget": 600, "observers": 64, "seeds": 5}
TINY = {"budget": 12, "observers": 16, "seeds": 1}


@defaults(**USUAL)
def run(
    out: str,
    *,
    networks: Sequence[str] | None = None,
    feedback: Sequence[str] | None = None,
    contrast: str = "softplus",
    rates: Sequence[float] = (5e-5, 1e-3),
    **common: Unpack[Observed],
) -> analysis.Results:
    """Follow the alignment of local with backprop-derived updates over training, for four kinds of feedback.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    networks : sequence of str, optional
        As conv:32-64M-64-128M or vgg6; mlp:128-128-128-128-128-128 and vgg6:0.0625 by default.
    feedback : sequence of str, optional
        Out of lateral, direct, optimal, random; all by default.
    contrast : str
        f of the loss: softplus, hinge, linear or phyll.
    rates : sequence of float
        Learning rates of AdamW, of the feedforward and of the feedback weights.
    **common
        See `protocols.harness.shared.Observed`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Observed)
    different("feedback", feedback if feedback is not None else tuple(FEEDBACK), FEEDBACK)
    if len(rates) != 2 or not all(0 < rate < 1 for rate in rates):
        raise OptionError(
            "rates: expected two between 0 and 1, of the feedforward and of the feedback weights, such as 5e-5,1e-3; got "
            + (",".join(f"{rate:g}" for rate in rates) or "none")
        )
    if networks is not None:
        different("networks", networks)
    setting = settle(out, "update_alignment", common, USUAL, TINY)
    kinds = setting.choose("feedback", feedback, tuple(FEEDBACK))
    described = setting.choose("networks", networks, TINY_NETWORKS if setting.tiny else NETWORKS)
    for network in described:
        if len(from_description(network, setting.images.shape).order) < 2:
            raise OptionError(f"networks: {network} has no population below the top whose alignment could be measured")
    trials = [
        learning_trial(
            setting,
            kind,
            label_of(network, kind),
            make_rule(FEEDBACK[kind], contrast=contrast, pool="spatial, global top"),
            seed,
            (rates[0], rates[1]),
            network=network,
            path=f"{safe_name(network)}/{kind}/seed-{seed}",
            records=4 if setting.tiny else 24,
            read=(200, 100) if setting.tiny else (2000, 1000),
        )
        for network in described
        for kind in kinds
        for seed in setting.seeds
    ]
    options = setting.options(networks=described, feedback=kinds, contrast=contrast, rates=list(rates))
    with Experiment(setting, options, trials) as experiment:
        experiment.learn()
        return experiment.report(lambda comparison: results_of(comparison, described, kinds, options))
