"""Does a rule that is closer to backprop read out better? Against scipy, pingouin and cases where the answer is known."""

import math
from itertools import permutations

import numpy as np
import pytest
import xarray as xr
from many_runs import POPULATIONS, made_up, selected
from scipy import stats

import analysis
from analysis.closeness import relation, relation_in_words
from analysis.drawing import png
from analysis.inference import holm
from analysis.outcomes import before_and_after, over_training
from analysis.relation_figures import relation_figure
from neurossl.errors import OptionError, TrajectoryError

CLOSE = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 0.7, "e": 0.9}
RISING = {"a": 0.02, "b": 0.06, "c": 0.10, "d": 0.14, "e": 0.18, "bp": 0.2}


def test_what_runs_come_to() -> None:
    tree = made_up(CLOSE, RISING, noise=0)
    found = before_and_after(tree)
    assert found["population"].values.tolist() == POPULATIONS, "pixels are not learned"
    assert found["before"].sel(rule="a").values == pytest.approx(0.6)
    assert found["after"].sel(rule="e").values == pytest.approx(0.78)
    mean = over_training(tree)
    assert mean.sel(rule="c", pathway="V1->V2").values == pytest.approx(0.5)
    assert np.isnan(mean.sel(pathway="V2->V3")).all(), "by construction"
    assert np.isnan(mean.sel(rule="bp")).all()
    single = before_and_after(selected(tree, rule="b", seed=2))
    assert single["after"].dims == ("population",)
    assert single["after"].values == pytest.approx(0.66)
    tree["performance"] = xr.DataTree(tree["performance"].to_dataset().fillna(0.5))
    assert before_and_after(tree)["population"].values.tolist() == POPULATIONS, "nor are they where they are read out again"
    network = '{"populations": [{"name": "retina"}, {"name": "V1", "input": true}, {"name": "V2"}, {"name": "V3"}]}'
    tree.attrs["network"] = network
    assert before_and_after(tree)["population"].values.tolist() == ["retina", "V2", "V3"], "the manifest knows best"


def test_a_run_that_stopped_early_has_no_result() -> None:
    tree = made_up(CLOSE, RISING, noise=0)
    group = tree["performance"].to_dataset()
    stopped = (group["rule"] == "b") & (group["seed"] == 1) & (group["event"] == 20)
    accuracy = group["probe_accuracy"].where(~stopped)
    accuracy = accuracy.where(~((group["rule"] == "b") & (group["seed"] == 1) & (group["event"] == 10)), 0.61)
    found = before_and_after(xr.DataTree.from_dict({"/performance": group.assign(probe_accuracy=accuracy)}))
    after = found["after"].sel(rule="b", population="V1")
    assert math.isnan(after.sel(seed=1))
    assert after.sel(seed=[0, 2, 3]).values == pytest.approx(0.66)


def test_untrusted_comparisons_do_not_count() -> None:
    tree = made_up(CLOSE, RISING, noise=0)
    group = tree["alignment"].to_dataset()
    bad = (group["event"] == 20) & (group["rule"] == "a")
    group["cosine"] = group["cosine"].where(~bad, 0.8)
    group["trustworthy"] = group["trustworthy"].where(~bad, 0.0)
    tree["alignment"] = xr.DataTree(group)
    assert over_training(tree).sel(rule="a", pathway="V1->V2").values == pytest.approx(0.1)


def test_between_rules_the_correlations_are_those_of_scipy_over_means() -> None:
    gain = {"a": 0.05, "b": 0.02, "c": 0.10, "d": 0.08, "e": 0.18}
    found = relation(made_up(CLOSE, gain, noise=0.02))
    assert found["population"].values.tolist() == POPULATIONS
    for population in ("V1", "V2"):
        one = found.sel(population=population)
        x, y = one["x"].mean("seed").values, one["y"].mean("seed").values
        assert (one["x_mean"].values, one["y_mean"].values) == (pytest.approx(x), pytest.approx(y))
        pearson = stats.pearsonr(x, y)
        assert float(one["pearson"]) == pytest.approx(pearson.statistic)
        interval = pearson.confidence_interval(0.95)
        assert (float(one["pearson_low"]), float(one["pearson_high"])) == pytest.approx(tuple(interval))
        assert float(one["spearman"]) == pytest.approx(stats.spearmanr(x, y).statistic)
        exact = stats.pearsonr(x, y, method=stats.PermutationMethod(n_resamples=10_000)).pvalue
        assert float(one["pearson_p"]) == pytest.approx(exact)
        orders = np.array([stats.spearmanr(np.array(p), y).statistic for p in permutations(x)])
        r = float(one["spearman"])
        wanted = 2 * min((orders >= r - 1e-9).mean(), (orders <= r + 1e-9).mean())
        assert float(one["spearman_p"]) == pytest.approx(min(1, wanted))
        half = 1.959964 * math.sqrt((1 + r * r / 2) / 2)
        assert float(one["spearman_low"]) == pytest.approx(math.tanh(math.atanh(r) - half), abs=1e-6)
        without = stats.spearmanr(x[1:], y[1:]).statistic
        assert float(one["spearman_without"].sel(rule="a")) == pytest.approx(without)
        assert int(one["rules"]) == 5
    assert math.isnan(found["spearman"].sel(population="V3")), "all are 1 by construction there"
    assert int(found["rules"].sel(population="V3")) == 0
    assert found["spearman_p_holm"].values == pytest.approx(holm(found["spearman_p"].values), nan_ok=True)


def test_within_rules_the_correlation_is_pingouins() -> None:
    pingouin = pytest.importorskip("pingouin")
    found = relation(made_up(CLOSE, RISING, seeds=range(6), noise=0.03)).sel(population="V1")
    table = found[["x", "y"]].to_dataframe().dropna().reset_index()
    theirs = pingouin.rm_corr(table, "x", "y", "rule").iloc[0]
    assert float(found["within"]) == pytest.approx(theirs["r"])
    assert float(found["within_p"]) == pytest.approx(theirs["pval"])
    assert (float(found["within_low"]), float(found["within_high"])) == pytest.approx(tuple(theirs["CI95"]), abs=0.006), (
        "which pingouin rounds"
    )
    assert (int(found["within_n"]), int(found["within_rules"])) == (30, 5)


def test_a_rule_that_scatters_more_than_the_others_does_not_carry_what_is_said_of_all() -> None:
    generator = np.random.default_rng(0)
    rules, seeds = list(CLOSE), range(8)
    scatter = np.array([0.001, 0.001, 0.001, 0.001, 0.2])[:, None]
    x = scatter * generator.standard_normal((5, 8))
    y = np.where(scatter > 0.1, x, scatter * generator.standard_normal((5, 8)))
    axes = {"rule": rules, "seed": list(seeds), "population": ["V1"]}
    tree = made_up(CLOSE, RISING, seeds=seeds)
    values = [xr.DataArray(one[:, :, None], axes, ("rule", "seed", "population")) for one in (x, y)]
    found = relation(tree, *values).sel(population="V1")
    assert float(found["within"]) > 0.99
    rest = [one[:4] - one[:4].mean(1, keepdims=True) for one in (x, y)]
    alone = (rest[0] * rest[1]).sum() / np.sqrt(np.square(rest[0]).sum() * np.square(rest[1]).sum())
    assert float(found["within_without"].sel(rule="e")) == pytest.approx(alone)
    change = "turns it round" if alone < 0 else "changes it most"
    assert f"Leaving out E {change} (r = {alone:+.2f})" in found.attrs["words"]


def test_seeds_are_no_rules() -> None:
    # Two rules far apart, and one between: over all 60 runs r is large and p tiny, over 3 rules nothing is shown.
    found = relation(made_up({"a": 0.1, "b": 0.11, "c": 0.9}, {"a": 0.1, "b": 0.1, "c": 0.2}, seeds=range(20)))
    one = found.sel(population="V1")
    pooled = stats.pearsonr(one["x"].values.ravel(), one["y"].values.ravel())
    assert pooled.pvalue < 1e-6
    assert float(one["pearson_p"]) >= 1 / 3
    assert "nothing could have been shown" in relation_in_words(found)[0]


def test_a_relation_that_is_there_is_shown_and_one_that_is_not_is_not() -> None:
    rules = {f"r{n}": 0.1 * n for n in range(1, 9)}
    rising = relation(made_up(rules, {name: 0.2 * x for name, x in rules.items()}))
    assert relation_in_words(rising)[0].startswith("V1: closer rules read out better.")
    falling = relation(made_up(rules, {name: -0.2 * x for name, x in rules.items()}))
    assert relation_in_words(falling)[1].startswith("V2: closer rules read out WORSE.")
    rules = {f"r{n}": 0.1 * n for n in range(1, 7)}
    hits = 0
    for seed in range(40):
        shuffled = np.random.default_rng(seed).permutation(list(rules.values()))
        one = relation(made_up(rules, dict(zip(rules, 0.2 * shuffled, strict=True)), generator=seed))
        hits += bool((one["spearman_p_holm"] < 0.05).any())
    assert hits <= 6


def test_one_rule_that_carries_it_is_named() -> None:
    gain = {"a": 0.10, "b": 0.06, "c": 0.08, "d": 0.05, "e": 0.3}
    found = relation(made_up(CLOSE, gain, noise=0.001))
    assert "Leaving out E turns it round (Spearman -0.80)" in relation_in_words(found)[0]
    assert float(found["pearson_without"].sel(rule="e", population="V1")) < 0 < float(found["pearson"].sel(population="V1"))


def test_x_and_y_of_ones_own() -> None:
    tree = made_up(CLOSE, RISING, noise=0.005)
    gain = relation(tree)
    after = relation(tree, y="accuracy")
    assert float((after["y"] - gain["y"]).mean()) == pytest.approx(0.6, abs=0.02)
    against = relation(tree, y="against reference")
    reached = before_and_after(tree)["after"].sel(rule="bp")
    wanted = before_and_after(tree)["after"].sel(rule="c") - reached
    assert against["y"].sel(rule="c", population="V1").values == pytest.approx(wanted.sel(population="V1").values)
    similarity = gain["x"].rename("cka").assign_attrs(long_name="CKA with backprop")
    own = relation(tree, x=similarity, y=gain["y"])
    assert own.attrs["x"] == "CKA with backprop"
    assert float(own["pearson"].sel(population="V1")) == pytest.approx(float(gain["pearson"].sel(population="V1")))
    raw = tree["alignment"]["cosine"].mean("event")
    masked = relation(tree, x=raw)
    assert np.isnan(masked["x"].sel(population="V3")).all(), "by construction, whoever computes it"
    tree["alignment"] = xr.DataTree(tree["alignment"].to_dataset().assign(credit_cosine=tree["alignment"]["cosine"] / 2))
    halved = relation(tree, x="credit")["x"].sel(population="V2")
    assert halved.values == pytest.approx(gain["x"].sel(population="V2").values / 2, nan_ok=True)


def test_the_ceiling_and_what_backprop_reaches_are_told() -> None:
    tree = made_up(CLOSE, RISING, noise=0.001)
    group = tree["alignment"].to_dataset()
    ceiling = xr.full_like(group["cosine"], 0.8).where(group["event"] > 0)
    tree["alignment"] = xr.DataTree(group.assign(ceiling=ceiling))
    found = relation(tree)
    assert found["x_ceiling"].sel(population="V1") == pytest.approx(2 * 0.8 / 1.8)  # of whole batches, from halves
    assert float(found["y_backprop"].sel(rule="bp", population="V1")) == pytest.approx(0.2, abs=0.005)
    figure = relation_figure(found)
    assert figure is not None
    assert len(figure.axes) == 2, "V3 has nothing that is not 1 by construction"
    lines = [line.get_label() for line in figure.axes[0].lines]
    assert "backprop on as many other observers (expected)" in lines
    assert "Backprop (reaches)" in lines
    places = {c.get_label(): c.lines[0].get_xydata()[0] for c in figure.axes[0].containers}
    for rule in CLOSE:
        one = found.sel(rule=rule, population="V1")
        assert places[rule.upper()] == pytest.approx([float(one["x_mean"]), 100 * float(one["y_mean"])])
    assert len(png(figure)) > 10_000


def test_few_rules_one_seed_and_wrong_names() -> None:
    tree = made_up(CLOSE, RISING)
    one_seed = relation(selected(tree, seed=[2]))
    assert np.isfinite(one_seed["spearman"].sel(population="V1"))
    assert np.isnan(one_seed["x_half_width"]).all()
    assert "Within rules nothing can be said" in relation_in_words(one_seed)[0]
    assert relation_figure(one_seed) is not None
    with pytest.raises(TrajectoryError, match="no population has 3 rules"):
        relation(selected(tree, rule=["a", "b", "bp"]))
    with pytest.raises(TrajectoryError, match="several rules"):
        relation(selected(tree, rule="a", seed=0))
    with pytest.raises(OptionError, match="no 'cosinus'"):
        relation(tree, x="cosinus")
    with pytest.raises(OptionError, match="'gain'"):
        relation(tree, y="gains")
    with pytest.raises(OptionError, match="no measure 'knn'"):
        relation(tree, measure="knn")
    with pytest.raises(OptionError, match="dimensions rule, seed and population"):
        relation(tree, y=tree["performance"]["probe_accuracy"])
    with pytest.raises(OptionError, match="dimensions rule, seed and pathway"):
        relation(tree, x=xr.DataArray([1.0], dims="rule"))
    with pytest.raises(TrajectoryError, match="no performance"):
        relation(xr.DataTree.from_dict({"/alignment": tree["alignment"].to_dataset()}))
    with pytest.raises(TrajectoryError, match="no alignment"):
        relation(xr.DataTree.from_dict({"/performance": tree["performance"].to_dataset()}))
    same = made_up(CLOSE, dict.fromkeys(CLOSE, 0.1), noise=0)
    assert "no relation to speak of" in relation_in_words(relation(same))[0]


def test_the_accumulated_change_is_that_of_the_paths() -> None:
    if not hasattr(analysis, "accumulated_alignment"):
        pytest.skip("paths of weights are not there")
    tree = made_up(CLOSE, RISING, noise=0.002)
    rng = np.random.default_rng(0)
    rules = list(RISING)
    start, change = rng.normal(size=(4, 1, 6, 5)), rng.normal(size=(4, 1, 6, 5))
    moved = np.stack([CLOSE.get(rule, 1) * change + 0.3 * rng.normal(size=change.shape) for rule in rules])
    moved[rules.index("bp")] = change
    weight = np.concatenate([np.broadcast_to(start, moved.shape), start + moved], axis=2)
    about = {name: tree["alignment"].coords[name] for name in ("rule", "seed", "label", "reference", "transport")}
    when = {"snapshot": [0, 20], "observers_seen": ("snapshot", [0, 160])}
    weights = xr.Dataset({"weight": (("rule", "seed", "snapshot", "post", "pre"), weight)}, {**about, **when})
    tree["weights/V1->V2"] = xr.DataTree(weights.assign_attrs(pathway="V1->V2"))
    found = relation(tree, x="accumulated")
    assert found["population"].values.tolist() == ["V2"]
    wanted = analysis.accumulated_alignment(tree, analysis.own_references(tree))["cosine"].isel(snapshot=-1)
    for rule in CLOSE:
        d, g = moved[rules.index(rule), 2].ravel(), change[2].ravel()
        cosine = d @ g / np.linalg.norm(d) / np.linalg.norm(g)
        assert float(found["x"].sel(rule=rule, seed=2, population="V2")) == pytest.approx(cosine)
        assert float(wanted.sel(rule=rule, seed=2, pathway="V1->V2")) == pytest.approx(cosine)
    assert np.isnan(found["x"].sel(rule="bp")).all(), "its own reference"
    assert float(found["spearman"].sel(population="V2")) == pytest.approx(1)


def test_the_similarity_of_representations_is_that_of_the_library() -> None:
    if not hasattr(analysis, "cka"):
        pytest.skip("similarities of representations are not there")
    tree = made_up(CLOSE, RISING, noise=0.002)
    with pytest.raises(TrajectoryError, match="no responses were recorded"):
        relation(tree, x="representation")
    rng = np.random.default_rng(0)
    common = rng.normal(size=(4, 2, 40, 6))
    shares = [CLOSE.get(rule, 1.0) for rule in RISING]
    response = np.stack([s * common + (1 - s) * rng.normal(size=common.shape) for s in shares])
    about = {name: tree["alignment"].coords[name].values for name in ("rule", "seed")}
    labels = {"snapshot": [0, 20], "stimulus": np.arange(40), "image": ("stimulus", np.arange(40))}
    dims = ("rule", "seed", "snapshot", "stimulus", "neuron")
    group = xr.Dataset({"response": (dims, response)}, {**about, **labels}, {"name": "V2", "stimuli": "abc"})
    tree["responses/V2"] = xr.DataTree(group)
    found = relation(tree, x="representation")
    assert found["population"].values.tolist() == ["V2"]
    last = group["response"].isel(snapshot=-1, seed=1)
    wanted = analysis.cka(last.sel(rule="c"), last.sel(rule="bp"))
    assert float(found["x"].sel(rule="c", seed=1, population="V2")) == pytest.approx(float(wanted))
    assert np.isnan(found["x"].sel(rule="bp")).all(), "it is compared with nothing"
    assert float(found["spearman"].sel(population="V2")) == pytest.approx(1)
