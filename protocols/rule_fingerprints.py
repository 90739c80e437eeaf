"""Which rule was it? From the path of weights and activities alone, a classifier names the rule that made it.

After Nayebi et al. 2020 (arXiv 2010.11765). Networks of two sizes learn from two data sets by twelve rules, each at a
learning rate and with a number of observers that are drawn for every run from the same range, so that neither tells the
rule. A random forest sees statistics of the weights and of the responses to fixed stimuli at a few moments
(`analysis.observables`), nothing else; it is tried on seeds, on an architecture and on a data set that it has not seen,
beside forests that learn from permuted names.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Unpack

import analysis
from neurossl.errors import OptionError
from protocols.fingerprints.classifying import UNITS, read, tables
from protocols.fingerprints.learning import NETWORKS, RULES, loaded, trial
from protocols.fingerprints.results import results_of
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.rules import canonical, choose_rules
from protocols.harness.settings import settle
from protocols.harness.shared import Files, Runs, reject_unknown

USUAL = {"budget": 240, "seeds": 10}
TINY = {"budget": 8, "seeds": 3}
TINY_RULES = ("clapp++gap", "ff", "bp")


class Options(Files, Runs, total=False):
    """The options of this protocol that others share.

    Parameters
    ----------
    budget : int, optional
        Moments of learning per run.
    """

    budget: int | None


@defaults(**USUAL, rules=RULES, networks=NETWORKS, datasets=("digits", "photographs"))
def run(
    out: str,
    *,
    rules: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    permutations: int | None = None,
    **common: Unpack[Options],
) -> analysis.Results:
    """Learn by many rules, and find out from the stored trajectories alone by which.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    rules : sequence of str, optional
        At least two of the registered rules.
    networks : sequence of str, optional
        Dense networks; with several, each is held out once.
    datasets : sequence of str, optional
        With labels; with several, each is held out once.
    permutations : int, optional
        Forests that learn from permuted names; 100 by default, 5 with tiny.
    **common
        See `Options`.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a run could not finish.
    """
    reject_unknown(common, Options)
    setting = settle(out, "rule_fingerprints", common, USUAL, TINY)
    usual = TINY_RULES if setting.tiny else RULES
    chosen = choose_rules(setting.choose("rules", [canonical(r) for r in rules] if rules else None, usual), {}, rules or ())
    described = setting.choose("networks", networks, ("mlp:12-12-12", "mlp:16-16-16-16") if setting.tiny else NETWORKS)
    images = loaded(setting.choose("datasets", datasets, ("digits", "photographs")), common)
    tried = setting.stored.get("permutations", 5 if setting.tiny else 100) if permutations is None else permutations
    if len(chosen) < 2 or len(setting.seeds) < 3:
        raise OptionError(f"expected at least 2 rules and 3 seeds to tell apart, got {len(chosen)} and {len(setting.seeds)}")
    if not 1 <= tried <= 10_000:
        raise OptionError(f"permutations: expected 1 to 10000, got {tried}")
    trials = [
        trial(setting, rule, network, dataset, shown, seed)
        for dataset, shown in images.items()
        for network in described
        for rule in chosen
        for seed in setting.seeds
    ]
    options = setting.options(
        rules=[rule.key for rule in chosen], networks=described, datasets=list(images), permutations=tried
    )
    with Experiment(setting, options, trials) as experiment:
        experiment.learn()
        done = [one for one in trials if experiment.finished(one.path)]
        seen = experiment.call(
            done,
            read(setting.out),
            moments=len(UNITS),
            what="trajectories",
            kept=lambda one: f"observables/{one.path.replace('/', '_')}-{one.moments}.json",
        )
        asked = sha256(repr((sorted(one.path for one in done), setting.budget, tried)).encode()).hexdigest()[:12]
        found = experiment.kept(f"classified-{asked}.json", lambda: tables(seen, tried, setting.workers))
        return experiment.finish(results_of(found, options))
