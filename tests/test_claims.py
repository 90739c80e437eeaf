"""What a page may claim: the family of claims, its correction, and the three sentences at the top."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from many_runs import POPULATIONS, made_up, selected
from scipy import stats

import analysis
from analysis.closeness import relation
from analysis.correctness import answers_beside, clustered_bootstrap, seeds_and_images
from analysis.inference import holm
from analysis.outcomes import before_and_after
from analysis.page_answers import answers, images_in_words
from analysis.page_claims import DIFFERENCE, EQUIVALENCE, GAIN, claims, sentences
from analysis.power import detectable_difference
from neurossl.errors import OptionError, TrajectoryError

CLOSE = {"good": 0.9, "lazy": 0.1, "worse": 0.3}
GAINS = {"good": 0.2, "lazy": 0.0, "worse": -0.1, "bp": 0.2}


def test_the_family_is_every_claim_of_the_page_and_corrected_as_one() -> None:
    tree = made_up(CLOSE, GAINS, noise=0.003)
    family = claims(tree)
    assert [c.kind for c in family].count(GAIN) == 4 * 3
    assert [c.kind for c in family].count(DIFFERENCE) == [c.kind for c in family].count(EQUIVALENCE) == 3 * 3
    assert {claim.family for claim in family} == {30}
    corrected = holm(np.array([claim.p for claim in family]))
    assert [claim.p_holm for claim in family] == pytest.approx(list(corrected))
    assert all(claim.holds == (claim.p_holm < 0.05) for claim in family)
    found = before_and_after(tree)
    for claim in family:
        rule = {"Backprop": "bp"}.get(claim.subject, claim.subject.lower())
        x = found.sel(rule=rule, population=claim.population)
        y = x["before"] if claim.kind == GAIN else found["after"].sel(rule="bp", population=claim.population)
        test = stats.ttest_rel(x["after"], y)
        assert claim.difference.mean == pytest.approx(float((x["after"] - y).mean()))
        assert claim.difference.n == 4
        if claim.kind != EQUIVALENCE:
            assert claim.p == pytest.approx(test.pvalue)
        else:
            assert claim.margin == 0.02
            assert claim.p == pytest.approx(
                max(
                    stats.ttest_1samp(x["after"] - y, -0.02, alternative="greater").pvalue,
                    stats.ttest_1samp(x["after"] - y, 0.02, alternative="less").pvalue,
                )
            )


def test_sentences_say_what_holds_with_numbers_n_and_the_correction() -> None:
    good, lazy, worse, bp, about = sentences(claims(made_up(CLOSE, GAINS, noise=0.001)))
    assert good.startswith("GOOD: a linear readout is better than before learning at V1 (+20.")
    assert "is as good as Backprop within 2 points at V1" in good
    assert "is not shown to differ from before learning at V1" in lazy
    assert "It is WORSE than Backprop at V1 (-20." in lazy
    assert "WORSE than before learning at V1 (-" in worse
    assert "It" not in bp, "backprop is not compared with itself"
    assert "(n = 4)" in bp
    assert "Holm's correction over 30 claims" in about


def test_three_seeds_show_less_after_correction_than_they_seem_to() -> None:
    tree = made_up(CLOSE, {"good": 0.04, "lazy": 0.03, "worse": 0.03, "bp": 0.04}, seeds=(0, 1, 2), noise=0.012, generator=1)
    family = claims(tree)
    gains = [claim for claim in family if claim.kind == GAIN]
    assert sum(claim.p < 0.05 for claim in gains) > 3 * sum(claim.holds for claim in gains)
    text = next(claim for claim in gains if claim.p < 0.05 and not claim.holds).text
    assert "not shown to differ from before learning" in text
    assert "after Holm's correction over 30 claims" in text


def test_no_difference_shown_is_not_as_good() -> None:
    tree = made_up(CLOSE, {"good": 0.2, "lazy": 0.2, "worse": 0.2, "bp": 0.2}, seeds=(0, 1, 2), noise=0.02, generator=3)
    family = [claim for claim in claims(tree) if claim.kind == EQUIVALENCE]
    assert not any(claim.holds for claim in family)
    assert "not shown to be as good as Backprop within 2 points" in family[0].text
    sure = [claim for claim in claims(tree, margin=0.5) if claim.kind == EQUIVALENCE and claim.holds]
    assert "as good as Backprop within 50 points" in sure[0].text
    with pytest.raises(OptionError, match="above 0"):
        claims(tree, margin=-1.0)


def test_with_one_seed_nothing_is_claimed() -> None:
    tree = selected(made_up(CLOSE, GAINS), seed=[1])
    family = claims(tree)
    assert not any(claim.holds for claim in family)
    assert all(math.isnan(claim.p) for claim in family)
    assert "n = 1: no interval" in family[0].text
    told = sentences(family)
    assert len(told) == 4, "no correction is spoken of"
    assert "a linear readout changes against before learning (n = 1: no interval) at V1 (+" in told[0]
    close, buys, uncertain = answers(tree)
    assert "one seed" in close
    assert "one seed proves nothing" in buys
    assert uncertain.startswith("With one seed nothing is claimed")


def test_differences_without_spread_are_no_proof() -> None:
    tree = made_up(CLOSE, GAINS, noise=0)
    family = claims(tree)
    assert not any(claim.holds for claim in family)
    gain = next(claim for claim in family if claim.subject == "GOOD" and claim.kind == GAIN)
    assert "no spread: no test" in gain.text
    lazy = next(claim for claim in family if claim.subject == "LAZY" and claim.kind == GAIN)
    assert lazy.p == 1
    assert sentences(family)
    assert answers(tree)


def test_missing_seeds_are_left_out_and_said() -> None:
    tree = made_up(CLOSE, GAINS)
    group = tree["performance"].to_dataset()
    gone = (group["rule"] == "good") & (group["seed"] == 3)
    tree["performance"] = xr.DataTree(group.where(~gone))
    family = claims(tree)
    good = [claim for claim in family if claim.subject == "GOOD"]
    assert all((c.difference.n, c.difference.left_out) == (3, 1) for c in good)
    assert "n = 3, 1 at most not finite left out" in sentences(family)[0]
    assert "values before or after learning are missing" in answers(tree).what_is_uncertain


def test_rules_are_compared_with_backprop_of_their_own_objective_else_with_bp() -> None:
    tree = made_up(CLOSE, {**GAINS, "bp-clapp++": 0.1})
    for node in ("performance", "alignment"):
        group = tree[node].to_dataset()
        named = xr.where(group["rule"] == "lazy", "BP-CLAPP++", group["reference"])
        named = xr.where(group["rule"] == "worse", "BP-goodness", named)
        tree[node] = xr.DataTree(group.assign_coords(reference=("rule", named.values)))
    against = {claim.subject: claim.against for claim in claims(tree) if claim.kind == DIFFERENCE}
    assert against == {"GOOD": "Backprop", "LAZY": "BP-CLAPP++", "WORSE": "Backprop"}
    alone = selected(tree, rule=["worse", "bp-clapp++"])
    assert {claim.kind for claim in claims(alone)} == {GAIN}, "there is nothing to compare it with"


def test_three_sentences_answer_the_question() -> None:
    tree = made_up({**CLOSE, "d": 0.5, "e": 0.6, "f": 0.7}, {**GAINS, "d": 0.05, "e": 0.1, "f": 0.15}, noise=0.002)
    close, buys, uncertain = answers(tree)
    assert close.startswith(
        "Single updates are closest to those of backprop of the same objective in GOOD (cosine 0.90±0.00 at"
    )
    assert "farthest in LAZY (0.10±0.00 at" in close
    assert "V2->V3" not in close, "by construction"
    assert "n = 4 seeds" in close
    assert "of 21 cases" in buys
    assert "Spearman over 6 rules: V1 +0." in buys
    family = claims(tree)
    spreads = [c.difference.half_width * 2 / stats.t.ppf(0.975, 3) for c in family if c.kind != EQUIVALENCE]
    smallest = 100 * detectable_difference(float(np.median(spreads)), 4, tests=family[0].family)
    assert f"below {smallest:.2g} points will hardly be shown" in uncertain
    assert f"{sum(not claim.holds for claim in family)} of {len(family)} claims are not shown" in uncertain


def test_three_sentences_where_little_was_recorded() -> None:
    tree = made_up(CLOSE, GAINS)
    close, buys, _ = answers(xr.DataTree.from_dict({"/performance": tree["performance"].to_dataset()}))
    assert "was not recorded" in close
    assert "that needs 3 rules" in buys
    _, buys, uncertain = answers(xr.DataTree.from_dict({"/alignment": tree["alignment"].to_dataset()}))
    assert "no readout was recorded" in buys
    assert "Nothing is claimed of readouts" in uncertain
    close, buys, _ = answers(selected(tree, rule=["bp"]))
    assert "no comparison counts that is not 1 by construction" in close
    assert "3 cases" in buys
    assert answers(selected(tree, rule=["good"])).how_close.startswith("Single updates of GOOD have a cosine")
    assert all(answers(xr.DataTree()))
    assert claims(xr.DataTree()) == []
    assert claims(tree, measure="nothing of the kind") == []
    both = xr.DataTree.from_dict(
        {
            name: xr.concat([tree[name].to_dataset()] * 2, xr.Variable("lr", [0.1, 0.2]), data_vars="all")
            for name in ("performance", "alignment")
        }
    )
    with pytest.raises(OptionError, match="along lr"):
        claims(both)
    with pytest.raises(OptionError, match=r"x has further dimensions \(lr\)"):
        relation(both)
    with pytest.raises(TrajectoryError, match="tree of one run"):
        claims(selected(tree, rule="good", seed=0))


def test_public_names_are_functions_and_not_their_modules() -> None:
    assert callable(analysis.answers)
    assert callable(analysis.relation)
    assert callable(analysis.relation_figure)
    assert analysis.claims(made_up(CLOSE, GAINS))[0].population == POPULATIONS[0]


def run_with_answers(rng: np.random.Generator, quality: float) -> xr.DataTree:
    """Return the tree of one run that stored the answers of a probe to two views of 40 images, in two populations."""
    groups = {}
    for name in ("V1", "V2"):
        right = (rng.random((1, 80)) < quality).astype("int8")
        coords = {"snapshot": [90], "stimulus": np.arange(80), "image": ("stimulus", np.arange(80) % 40)}
        groups[f"/correctness/{name}"] = xr.Dataset({"probe": (("snapshot", "stimulus"), right)}, coords, {"name": name})
    return xr.DataTree.from_dict(groups)


def test_other_test_images_are_part_of_what_is_uncertain() -> None:
    rng = np.random.default_rng(0)
    quality = {"a": 0.9, "b": 0.7}
    rules = {rule: [SimpleNamespace(tree=run_with_answers(rng, q)) for _ in range(3)] for rule, q in quality.items()}
    several = SimpleNamespace(populations=["V1", "V2", "V3"], rules=rules, runs=[*rules["a"], *rules["b"]])
    (said,) = images_in_words(several)  # type: ignore[arg-type]
    found = [seeds_and_images(answers_beside({n: run.tree for n, run in enumerate(runs)}, "V2")) for runs in rules.values()]
    both = 100 * float(np.mean([one["half_width"] for one in found]))
    seeds = 100 * float(np.mean([one["half_width_seeds"] for one in found]))
    assert f"other seeds would move an accuracy at V2 by ±{seeds:.2g} points" in said
    assert f"other seeds and other test images by ±{both:.2g}" in said
    one = SimpleNamespace(populations=["V1"], rules={"a": rules["a"][:1]}, runs=rules["a"][:1])
    (said,) = images_in_words(one)  # type: ignore[arg-type]
    interval = clustered_bootstrap(rules["a"][0].tree["correctness/V1"]["probe"].isel(snapshot=0))
    assert f"by ±{50 * float(interval['high'] - interval['low']):.2g} points" in said
    bare = SimpleNamespace(populations=["V1"], rules={}, runs=[SimpleNamespace(tree=xr.DataTree())])
    assert images_in_words(bare) == []  # type: ignore[arg-type]
