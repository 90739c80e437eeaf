"""Does a rule that is closer to backprop read out better?

Rules are the units: seeds of a rule are repeats of one thing, and counted as rules they would make any relation look sure
(Hurlbert 1984, pseudoreplication). Three questions are kept apart, for every population:

* between rules: does the mean over seeds of one go with that of the other? Pearson's and Spearman's correlation over the
  means of rules, with an exact permutation of rules as the test,
* within rules: does the seed that is closer read out better? The correlation that all rules share after the mean of each is
  taken away (Bakdash and Marusich 2017), ``r = sum(dx dy) / sqrt(sum(dx^2) sum(dy^2))`` with ``N - rules - 1`` degrees of
  freedom,
* does one rule carry it? All three correlations with each rule left out in turn: the seeds of a rule that scatters more
  than the others weigh more within rules.

A pathway belongs to the population that it leads to. What is 1 by construction (the top of a local rule, backprop against
itself) says nothing and is left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from analysis.correlations import FEWEST_RULES, of_one_population
from analysis.cosine_references import OWN, About, ranking_in_words
from analysis.inference import LEVEL, holm
from analysis.noise import expected_ceiling
from analysis.outcomes import MEASURE, about_rules, before_and_after, over_training
from analysis.page_claims import p_text
from analysis.references import counterpart, is_backprop
from analysis.statistics import over_seeds
from neurossl.errors import OptionError, TrajectoryError
from neurossl.surroundings import imported

X = {
    "cosine": "cosine of single updates with backprop's, mean over training",
    "credit": "cosine of the credit with backprop's, mean over training",
    "representation": "similarity of the representation to that of the backprop run (debiased CKA), after learning",
    "accumulated": "cosine of the accumulated change of the weights with that of the backprop run",
}
Y = {
    "accuracy": "after learning",
    "gain": "gain over before learning",
    "against reference": "after learning, minus backprop of the same objective",
}


def relation(
    tree: xr.DataTree,
    x: str | xr.DataArray = "cosine",
    y: str | xr.DataArray = "gain",
    measure: str = MEASURE,
    generator: int = 0,
) -> xr.Dataset:
    """Return how closeness to backprop and what a readout finds go together, per population.

    Parameters
    ----------
    tree : DataTree
        Of many runs, from `open_runs`.
    x : str or DataArray
        Closeness: "cosine" (single updates, mean over training, where they are trusted), "credit" (its credit cosine),
        "accumulated" (`analysis.accumulated_alignment` with each rule's own reference, at the last snapshot),
        "representation" (`analysis.cka` of the responses with those of backprop of the same objective and seed,
        at the last snapshot), the name of another variable of ``/alignment``, or values by rule, seed and pathway or
        population. The coordinate ``by_construction`` says what is left out.
    y : str or DataArray
        What the readout finds: "gain" (after minus before), "accuracy" (after), "against reference" (after, minus backprop
        of the same objective at the same seed), or values by rule, seed and population.
    measure : str
        Of ``/performance``.
    generator : int
        Of the permutations, where there are too many for all.

    Returns
    -------
    Dataset, by population
        ``x``, ``y`` (rule, seed, population); ``x_mean``, ``x_half_width``, ``y_mean``, ``y_half_width`` (rule, population;
        95 % over seeds); between rules: ``pearson``, ``spearman``, each with ``_low`` and ``_high`` (95 %, Fisher's z; for
        ranks with Bonett and Wright's standard error; NaN below four rules), ``_p`` (permutation of rules) and ``_p_holm``
        (over the populations), ``rules`` (n); leave-one-out: ``pearson_without``, ``spearman_without`` (rule, population);
        within rules: ``within``, ``within_low``, ``within_high``, ``within_p``, ``within_p_holm``, ``within_n`` (values),
        ``within_rules`` and ``within_without`` (rule, population). Where it is known ``x_ceiling`` (population), the cosine
        that backprop is expected to have with itself on as many other observers (from two halves,
        `analysis.expected_ceiling`), and ``y_backprop`` (rule, population), what backprop reaches.
        ``attrs["ranking"]`` says where rules are held against references of different objectives, so that their order
        compares different things ("" where they share one). ``attrs["words"]`` says what the data support, one line per
        population; `relation_in_words` returns them as a list.

    Raises
    ------
    OptionError
        If x or y is none of those, or its labels do not fit.
    TrajectoryError
        If the tree is of one run, or no population has three rules with both values.
    """
    about = about_rules(tree)
    if not about:
        raise TrajectoryError("a relation needs several rules: open many runs with open_runs")
    closeness, x_name = _closeness(tree, x, about)
    found, y_name = _readout(tree, y, measure, about)
    populations = [p for p in found["population"].values if p in closeness["population"].values]
    rules = [rule for rule in about if rule in found["rule"].values]
    closeness = closeness.reindex(rule=rules)  # backprop has no x, and what it reaches is shown
    if not populations or not rules:
        raise TrajectoryError("x and y have no rule and population in common")
    shared = {"rule": rules, "population": populations}
    closeness, found = xr.align(closeness.sel(shared), found.sel(shared), join="outer", exclude=["rule", "population"])
    order = ("rule", "seed", "population")
    closeness, found = closeness.transpose(*order), found.transpose(*order)
    whole = np.isfinite(closeness) & np.isfinite(found)
    data = xr.Dataset({"x": closeness.where(whole), "y": found.where(whole)})
    counts = whole.any("seed").sum("rule")
    if int(counts.max()) < FEWEST_RULES:
        raise TrajectoryError(
            f"no population has {FEWEST_RULES} rules of which both {x_name} and {y_name} are known "
            f"(the most is {int(counts.max())}): nothing can be said about a relation between rules"
        )
    data = data.assign_coords(label=("rule", [about[rule]["label"] for rule in rules]))
    for name in ("x", "y"):
        means = over_seeds(data[name])
        data[f"{name}_mean"], data[f"{name}_half_width"] = means["mean"], means["half_width"]
    per_population = [of_one_population(data.sel(population=p), generator) for p in populations]
    data = data.merge(xr.concat(per_population, xr.Variable("population", populations)))
    for name in ("pearson_p", "spearman_p", "within_p"):
        data[f"{name}_holm"] = holm(data[name]).rename(f"{name}_holm")
    data = _surroundings(
        data, tree, x, found.where(found["rule"].isin([rule for rule in rules if is_backprop(about[rule])]))
    )
    measured = {rule: about[rule] for rule in rules if bool(data["x_mean"].sel(rule=rule).notnull().any())}
    data = data.assign_attrs(x=x_name, y=y_name, ranking=_ranking(x, measured, about))
    return data.assign_attrs(words="\n".join(_words(data, str(p)) for p in populations))


def _ranking(x: str | xr.DataArray, measured: About, about: dict[str, dict[str, Any]]) -> str:
    """Return what has to be said of the order of the rules that have an x."""
    if not isinstance(x, str):
        return ""
    if x in ("accumulated", "representation"):  # with the runs of their own references
        return OWN if len({counterpart(rule, about) for rule in measured}) > 1 else ""
    return ranking_in_words(measured)


def relation_in_words(found: xr.Dataset) -> list[str]:
    """Return what a `relation` says, one sentence per population."""
    return str(found.attrs["words"]).split("\n")


def _closeness(tree: xr.DataTree, x: str | xr.DataArray, about: dict[str, dict[str, Any]]) -> tuple[xr.DataArray, str]:
    """Return x by rule, seed and population, and what it is in words."""
    name = X.get(x, x) if isinstance(x, str) else str(x.attrs.get("long_name") or x.name or "closeness")
    if not isinstance(x, str):
        values = x
    elif x == "accumulated":
        values = _accumulated(tree)
    elif x == "representation":
        values = _represented(tree, about)
    else:
        values = over_training(tree, "credit_cosine" if x == "credit" else x)
    for dim in ("rule", "seed"):
        if dim not in values.dims:
            raise OptionError(f"x must have the dimensions rule, seed and pathway (or population), got {values.dims}")
    own = values.coords.get("by_construction")
    if own is None and "pathway" in values.dims and "alignment" in tree.children and not isinstance(x, str):
        stored = tree.children["alignment"].coords.get("by_construction")
        own = None if stored is None else stored.reindex(rule=values["rule"], pathway=values["pathway"], fill_value=False)
    values = values.where(np.isfinite(values))
    if own is not None:
        values = values.where(~own.astype(bool))
    if "population" not in values.dims:
        values = _to_populations(values)
    _require_no_further(values, "x")
    return values.reset_coords(drop=True).load(), name


def _accumulated(tree: xr.DataTree) -> xr.DataArray:
    """Return the alignment of the accumulated change of each rule with that of its own reference, at the end."""
    import analysis

    cosine: xr.DataArray = analysis.accumulated_alignment(tree, analysis.own_references(tree))["cosine"]
    return cosine.isel(snapshot=-1)


def _represented(tree: xr.DataTree, about: dict[str, dict[str, Any]]) -> xr.DataArray:
    """Return how similar each rule represents stimuli to backprop of its objective, by rule, seed and population."""
    import analysis

    groups = tree.children["responses"].children if "responses" in tree.children else {}
    if not groups:
        raise TrajectoryError("no responses were recorded: nothing is known of how rules represent stimuli")
    names, parts = [], []
    for key, group in groups.items():
        last = group["response"].isel(snapshot=-1)
        pairs = [(rule, other) for rule in about if (other := counterpart(rule, about)) is not None]
        found = [analysis.cka(last.sel(rule=rule, drop=True), last.sel(rule=other, drop=True)) for rule, other in pairs]
        if found:
            names.append(str(group.attrs.get("name", key)))
            parts.append(
                xr.concat(found, xr.Variable("rule", [rule for rule, _ in pairs]), coords="minimal", compat="override")
            )
    if not parts:
        raise TrajectoryError("there is no backprop run whose representation could be compared")
    return xr.concat(parts, xr.Variable("population", names), join="outer", coords="minimal", compat="override")


def _to_populations(values: xr.DataArray) -> xr.DataArray:
    """Return values by the population that pathways lead to, the mean where several do; feedback belongs to none."""
    if "pathway" not in values.dims:
        raise OptionError(f"x must be by pathway or population, got {values.dims}")
    forward = [str(name) for name in values["pathway"].values if "->" in str(name)]
    if not forward:
        raise OptionError("x has no feedforward pathway, such as 'V1->V2'")
    target = xr.Variable("pathway", [name.rpartition("->")[2] for name in forward])
    chosen = values.sel(pathway=forward).drop_vars("pathway").assign_coords(population=target)
    names = list(dict.fromkeys(target.values.tolist()))
    parts = [chosen.isel(pathway=np.flatnonzero(target.values == name)).mean("pathway") for name in names]
    return xr.concat(parts, xr.Variable("population", names))


def _readout(
    tree: xr.DataTree, y: str | xr.DataArray, measure: str, about: dict[str, dict[str, Any]]
) -> tuple[xr.DataArray, str]:
    """Return y by rule, seed and population, and what it is in words."""
    if not isinstance(y, str):
        if set(y.dims) != {"rule", "seed", "population"}:
            raise OptionError(f"y must have the dimensions rule, seed and population, got {y.dims}")
        return y.reset_coords(drop=True).load(), str(y.attrs.get("long_name") or y.name or "readout")
    if y not in Y:
        raise OptionError(f"y must be values, or one of {', '.join(map(repr, Y))}; got {y!r}")
    found = before_and_after(tree, measure).reset_coords(drop=True)
    values = found["after"]
    if y == "gain":
        values = values - found["before"]
    elif y == "against reference":
        other = {rule: counterpart(rule, about) for rule in about}
        parts = [
            values.sel(rule=rule) - (values.sel(rule=other[rule], drop=True) if other[rule] else np.nan) for rule in about
        ]
        values = xr.concat(parts, xr.Variable("rule", list(about)))
    _require_no_further(values, "y")
    what = {MEASURE: "accuracy of a linear readout", "knn_accuracy": "nearest-neighbour accuracy"}.get(measure, measure)
    return values, f"{what}, {Y[y]}"


def _require_no_further(values: xr.DataArray, name: str) -> None:
    others = [str(dim) for dim in values.dims if dim not in ("rule", "seed", "population")]
    if others:
        raise OptionError(f"{name} has further dimensions ({', '.join(others)}): choose along them before, as with tree.sel")


def _surroundings(data: xr.Dataset, tree: xr.DataTree, x: str | xr.DataArray, backprop: xr.DataArray) -> xr.Dataset:
    """Add the noise ceiling of x, and what backprop reaches in y, where they are known."""
    reached = backprop.mean("seed")
    if bool(reached.notnull().any()):
        data["y_backprop"] = reached
    if isinstance(x, str) and x == "cosine" and "ceiling" in tree.children["alignment"].data_vars:
        ceiling = _to_populations(over_training(tree, "ceiling")).mean(["rule", "seed"])
        data["x_ceiling"] = expected_ceiling(ceiling).reindex(population=data["population"])
    return data


def _words(data: xr.Dataset, population: str) -> str:
    one = data.sel(population=population)
    rules, tested = int(one["rules"]), int(data["spearman_p"].notnull().sum())
    r = float(one["spearman"])
    if rules < FEWEST_RULES:
        return f"{population}: {rules} rules with both values, too few for a relation."
    if np.isnan(r):
        return f"{population}: {rules} rules do not differ in one of both values: there is no relation to speak of."
    corrected = float(one["spearman_p_holm"])
    shown = f"closer rules read out {'better' if r > 0 else 'WORSE'}"
    sentences = [
        f"{population}: {shown if corrected < LEVEL else 'no relation between rules is shown'}.",
        f"Spearman {r:+.2f}{_interval(one, 'spearman')} over {rules} rules, p {p_text(float(one['spearman_p']))} "
        f"by permutation of rules, p {p_text(corrected)} after Holm's correction over {tested} "
        f"population{'s' * (tested != 1)}.",
        f"Pearson {float(one['pearson']):+.2f}{_interval(one, 'pearson')}, p {p_text(float(one['pearson_p']))}.",
    ]
    smallest = 2 / float(imported("scipy.special").factorial(rules))
    if smallest * tested >= LEVEL:
        sentences.append(f"With {rules} rules p is {smallest:.2g} at best, so that nothing could have been shown.")
    sentences += _left_out(one, "spearman", "Spearman")
    if np.isfinite(one["within"]):
        sentences.append(
            f"Within rules, over seeds: r = {float(one['within']):+.2f}{_interval(one, 'within')}, p "
            f"{p_text(float(one['within_p']))}, p {p_text(float(one['within_p_holm']))} after Holm's correction, n = "
            f"{int(one['within_n'])} runs of {int(one['within_rules'])} rules."
        )
        sentences += _left_out(one, "within", "r =")
    else:
        sentences.append("Within rules nothing can be said: too few seeds.")
    return " ".join([*sentences, *([str(data.attrs["ranking"])] if data.attrs["ranking"] else [])])


def _left_out(one: xr.Dataset, name: str, symbol: str) -> list[str]:
    """Say whether a single rule carries a correlation."""
    r, without = float(one[name]), one[f"{name}_without"].dropna("rule")
    if not without.size:
        return []
    far = without.isel(rule=int(np.argmax(abs(without.values - r))))
    if abs(float(far) - r) < 0.005:
        return ["No single rule carries it: leaving out any one leaves it as it is."]
    change = "turns it round" if float(far) * r < 0 else "changes it most"
    return [f"Leaving out {far['label'].item()} {change} ({symbol} {float(far):+.2f})."]


def _interval(one: xr.Dataset, name: str) -> str:
    low, high = float(one[f"{name}_low"]), float(one[f"{name}_high"])
    return f" (95 % {low:+.2f} to {high:+.2f})" if np.isfinite(low) else ""
