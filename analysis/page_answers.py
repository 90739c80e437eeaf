"""Three sentences for the top of a page: how close, what it buys, what is uncertain. From the data, and no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from analysis.closeness import FEWEST_RULES, relation
from analysis.correctness import answers_beside, clustered_bootstrap, seeds_and_images
from analysis.cosine_references import cosine_references, is_chosen, ranking_in_words
from analysis.outcomes import about_rules, over_training
from analysis.page_claims import DIFFERENCE, EQUIVALENCE, GAIN, MARGIN, Claim, claims, tree_of
from analysis.path_results import accumulated_headline
from analysis.power import detectable_difference
from analysis.statistics import Estimate, estimate
from neurossl.errors import OptionError, TrajectoryError
from neurossl.surroundings import imported
from neurossl.text import one_line

if TYPE_CHECKING:
    from analysis.comparison import Comparison

ENOUGH = 8
"""Seeds for which it is said what they would show."""


class Answers(NamedTuple):
    """Three sentences in plain English; each says that there is nothing to say where that is so."""

    how_close: str
    what_it_buys: str
    what_is_uncertain: str


def answers(source: Comparison | xr.DataTree, margin: float = MARGIN) -> Answers:
    """Return what a comparison of runs answers: how close local learning is to backprop, what that buys, how sure that is.

    Parameters
    ----------
    source : Comparison or DataTree
        Of many runs.
    margin : float
        Of equivalence, see `analysis.claims`.
    """
    tree = tree_of(source)
    if isinstance(source, xr.DataTree) or margin != MARGIN:
        family = claims(source, margin)
    else:
        family = source.claims
    further: list[str] = []
    if not isinstance(source, xr.DataTree):
        further = [*images_in_words(source.finished()), source.unfinished().rstrip(".")]
    uncertain = "; ".join([*_uncertain(tree, family), *(text for text in further if text)])
    close = _how_close(tree) + ("" if isinstance(source, xr.DataTree) else f" {accumulated_headline(source.finished())}")
    return Answers(one_line(close), one_line(_what_it_buys(source, family)), one_line(f"{uncertain}."))


def _how_close(tree: xr.DataTree) -> str:
    """Return which rules are closest to and farthest from backprop, per pathway: never pooled over pathways."""
    about = about_rules(tree)
    if "alignment" not in tree.children or not about:
        return "How close the updates are to those of backprop was not recorded in these runs."
    found = over_training(tree)
    measured: list[tuple[float, str, list[tuple[str, Estimate]]]] = []
    for rule in map(str, found["rule"].values):
        values = [(str(p), estimate(found.sel(rule=rule, pathway=p).values)) for p in found["pathway"].values]
        values = [(pathway, value) for pathway, value in values if value.n]
        if values:
            measured.append((float(np.mean([v.mean for _, v in values])), about[rule]["label"], values))
    if not measured:
        return "How close updates are to those of backprop is not known: no comparison counts that is not 1 by construction."
    measured.sort(key=lambda entry: -entry[0])
    _, closest, values = measured[0]
    if len(measured) == 1:
        said = f"Single updates of {closest} have a cosine with those of backprop of {_range(values)}"
    else:
        _, farthest, others = measured[-1]
        shared = cosine_references(about)[0].words if is_chosen(about) else ""
        whose = f"one reference for all rules ({shared})" if shared else "backprop of the same objective"
        said = (
            f"Single updates are closest to those of {whose} in {closest} (cosine {_range(values)}) "
            f"and farthest in {farthest} ({_range(others)})"
        )
        between = [f"{label} {_plain_range(values)}" for _, label, values in measured[1:-1]]
        said += f"; between them {', '.join(between)}" if between else ""
    counts = sorted({value.n for _, _, values in measured for _, value in values})
    ranking = ranking_in_words({rule: about[rule] for rule in about if about[rule]["label"] in {m[1] for m in measured}})
    said = f"{said} (mean over training, range over pathways, {_n(counts)}; what is 1 by construction is left out)."
    return f"{said} {ranking}" if len(measured) > 1 and ranking else said


def _range(values: Sequence[tuple[str, Estimate]]) -> str:
    """Return the smallest and the largest value with their pathways: a mean over pathways would say nothing of any."""
    low, high = (pick(values, key=lambda entry: entry[1].mean) for pick in (min, max))
    return f"{low[1].text(2)} at {low[0]}" + (f" to {high[1].text(2)} at {high[0]}" if high[0] != low[0] else "")


def _plain_range(values: Sequence[tuple[str, Estimate]]) -> str:
    means = sorted({f"{value.mean:.2f}": value.mean for _, value in values}.items(), key=lambda entry: entry[1])
    return " to ".join(text for text, _ in (means if len(means) == 1 else (means[0], means[-1])))


def _n(counts: Sequence[int]) -> str:
    """Return n in words, and what ± is."""
    if counts[-1] < 2:
        return "one seed, without an interval"
    return (
        f"± half-width of the 95 % interval, n = {counts[0] if len(counts) == 1 else f'{counts[0]} to {counts[-1]}'} seeds"
    )


def _what_it_buys(source: Comparison | xr.DataTree, family: Sequence[Claim]) -> str:
    """Return whether readouts gain by learning, how they stand against backprop, and whether closeness goes with gain."""
    gains = [claim for claim in family if claim.kind == GAIN]
    if not gains:
        return "What learning buys is not known: no readout was recorded before and after it."
    best = max(gains, key=lambda claim: claim.difference.mean)
    points = f"{best.difference.text(1, 100, sign=True)} points, {best.difference.n_text}"
    most = f"the most in {best.subject} at {best.population} ({points})"
    if not family[0].family:
        changed = sum(claim.difference.mean > 0 for claim in gains)
        said = (
            f"A linear readout finds more after learning in {changed} of {len(gains)} cases, {most}; one seed proves nothing"
        )
    else:
        better = sum(claim.holds and claim.difference.mean > 0 for claim in gains)
        worse = sum(claim.holds and claim.difference.mean < 0 for claim in gains)
        said = (
            f"A linear readout is better than before learning in {better} of {len(gains)} cases (rule and population)"
            f"{f' and WORSE in {worse}' if worse else ''} after correction, {most}"
        )
        said += _against(family)
    return f"{said}; {_goes_with(source)}."


def _against(family: Sequence[Claim]) -> str:
    """Return how rules stand against backprop."""
    differences = [claim for claim in family if claim.kind == DIFFERENCE]
    if not differences:
        return ""
    below = sum(claim.holds and claim.difference.mean < 0 for claim in differences)
    above = sum(claim.holds and claim.difference.mean > 0 for claim in differences)
    same = [claim for claim in family if claim.kind == EQUIVALENCE and claim.holds]
    margin = next(claim.margin for claim in family if claim.kind == EQUIVALENCE)
    return (
        f"; of {len(differences)} comparisons with backprop {below} are worse, {above} better, {len(same)} as good within "
        f"{100 * margin:g} points, and {len(differences) - below - above - len(same)} not decided"
    )


def _goes_with(source: Comparison | xr.DataTree) -> str:
    """Return whether rules that are closer gain more."""
    try:
        found = relation(source) if isinstance(source, xr.DataTree) else source.relation
    except TrajectoryError:
        return f"whether closer rules gain more cannot be said: that needs {FEWEST_RULES} rules with both measured"
    tested = found["population"].values[found["spearman"].notnull().values]
    if not len(tested):
        return "whether closer rules gain more cannot be said: they do not differ enough"
    listed = ", ".join(f"{p} {float(found['spearman'].sel(population=p)):+.2f}" for p in tested)
    rules = sorted({int(found["rules"].sel(population=p)) for p in tested})
    numbers = f"Spearman over {rules[0] if len(rules) == 1 else f'{rules[0]} to {rules[-1]}'} rules: {listed}"
    numbers += ", each rule against backprop of its own objective" if found.attrs["ranking"] else ""
    shown = [p for p in tested if float(found["spearman_p_holm"].sel(population=p)) < 0.05]
    if shown:
        signs = {float(found["spearman"].sel(population=p)) > 0 for p in shown}
        how = "gain more" if signs == {True} else "gain LESS" if signs == {False} else "gain more or less"
        return f"rules that are closer to backprop {how} at {', '.join(map(str, shown))} ({numbers})"
    return f"that rules which are closer to backprop gain more is not shown ({numbers})"


def _uncertain(tree: xr.DataTree, family: Sequence[Claim]) -> list[str]:
    """Return what the seeds can show and what they cannot, in parts of a sentence."""
    tested = [claim for claim in family if np.isfinite(claim.p)]
    if not family:
        parts = ["Nothing is claimed of readouts, since none were recorded"]
    elif not tested:
        parts = ["With one seed nothing is claimed: how much another seed would differ is unknown"]
    else:
        doubtful = len(tested) - sum(claim.holds for claim in tested)
        parts = [_power(tested)]
        parts += [f"{doubtful} of {len(tested)} claims are not shown, which does not make them false"] if doubtful else []
    left_out = sum(claim.difference.left_out for claim in family if claim.kind == GAIN)
    if left_out:
        parts.append(f"{left_out} values before or after learning are missing and do not count")
    return [*parts, *_untrusted(tree)]


def images_in_words(comparison: Comparison) -> list[str]:
    """Return how far other test images would move an accuracy at the highest population, median over rules."""
    populations = [p for p in comparison.populations if all(p in _answered(run.tree) for run in comparison.runs)]
    if not populations:
        return []
    top = populations[-1]
    alone, together, seeds = [], [], []
    for runs in comparison.rules.values():
        found = answers_beside({place: run.tree for place, run in enumerate(runs)}, top)
        try:
            if len(runs) > 1:
                both = seeds_and_images(found)
                together.append(float(both["half_width"]))
                seeds.append(float(both["half_width_seeds"]))
            else:
                one = clustered_bootstrap(found.isel(seed=0))
                alone.append(float(one["high"] - one["low"]) / 2)
        except OptionError:  # too few images, or none in common
            continue
    if together:
        said = f"other seeds would move an accuracy at {top} by ±{100 * np.nanmedian(seeds):.2g} points"
        return [f"{said}, other seeds and other test images by ±{100 * np.nanmedian(together):.2g} (median over rules)"]
    return [f"other test images would move an accuracy at {top} by ±{100 * np.nanmedian(alone):.2g} points"] if alone else []


def _answered(tree: xr.DataTree) -> list[str]:
    """Return the populations of which a run stored the answers of a linear probe."""
    groups = tree.children["correctness"].children if "correctness" in tree.children else {}
    return [str(group.attrs.get("name", key)) for key, group in groups.items() if "probe" in group.data_vars]


def _power(tested: Sequence[Claim]) -> str:
    """Return how large a difference must be to be shown, at the median spread over seeds."""
    spread = float(np.median([_spread(c.difference) for c in tested if c.kind != EQUIVALENCE]))
    n, tests = int(np.median([claim.difference.n for claim in tested])), tested[0].family
    alone = 100 * detectable_difference(spread, n)
    others = max(ENOUGH, 2 * n)
    here, more = (100 * detectable_difference(spread, seeds, tests=tests) for seeds in (n, others))
    return (
        f"With n = {n} seeds and {tests} claims a difference below {here:.2g} points will hardly be shown ({alone:.2g} "
        f"points if it were the only claim; {more:.2g} with {others} seeds; power 0.8 after Holm's correction, where "
        f"differences of one seed have a standard deviation of {100 * spread:.2g} points, the median)"
    )


def _spread(value: Estimate) -> float:
    """Return the standard deviation behind an interval."""
    return value.half_width * float(np.sqrt(value.n)) / float(imported("scipy.stats").t.ppf(0.975, value.n - 1))


def _untrusted(tree: xr.DataTree) -> list[str]:
    """Return how many comparisons of updates do not count."""
    group = tree.children.get("alignment")
    if group is None or "trustworthy" not in group.data_vars:
        return []
    recorded = group["cosine"].load().notnull()
    if "by_construction" in group.coords:
        recorded &= ~group["by_construction"].astype(bool)
    doubted = int(((group["trustworthy"].load().astype(float) == 0) & recorded).sum())
    return [f"{doubted} of {int(recorded.sum())} comparisons of updates are not trusted and left out"] if doubted else []
