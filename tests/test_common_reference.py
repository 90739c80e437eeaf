"""One reference for all rules of a table: backprop of an objective that stands at a population which all networks have."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import MemoryStore, clones, dense_circuit, drawn, full_moment, map_circuit, same, simulated, stimulus_of, wired
from oracle import Autograd, assert_close, contrastive_loss, proposals, skip_circuit

import analysis
from analysis.closeness import relation, relation_in_words
from analysis.cosine_references import COLUMN, OWN, cosine_references, is_chosen, ranking_in_words
from analysis.page_answers import answers
from neurossl import convolutional, make_rule, mlp
from neurossl.errors import NetworkError, OptionError
from neurossl.plasticity import Backprop, Contrastive, Synapses
from neurossl.plasticity.construction import by_construction
from neurossl.recorders import AlignmentMeasures, UpdateRecorder
from protocols import compare_rules, update_alignment
from protocols.harness.references import common_reference, highest_shared


@pytest.mark.parametrize("make", [dense_circuit, lambda: map_circuit(4), skip_circuit])
def test_updates_are_the_gradient_of_the_loss_where_it_stands(make) -> None:
    """Against autograd, in float64: populations below get the gradient of that loss, those above nothing."""
    plain = make()
    place = plain.network.order[-2]
    rule = Backprop(Contrastive(contrast="softplus"), at=place)
    circuit = wired(rule, plain)
    moment = full_moment(circuit)
    oracle = Autograd(circuit)
    z, _ = oracle.sweep(stimulus_of(moment), detach=False)
    name = f"{place}=>{place}"
    pools = (circuit.network.pathways[name].source_pool, circuit.network.pathways[name].target_pool)
    loss = contrastive_loss(z[place], z[place], oracle.weights[name][0], moment, "softplus", pools)
    found, expected = proposals(rule, circuit, moment), oracle.gradients(loss)
    assert set(found) == set(expected)
    assert_close(found, expected, list(expected))
    above = [n for n, p in circuit.network.feedforward.items() if p.post == circuit.network.top]
    assert not set(above) & set(found), "what lies above receives no credit"


def test_at_the_top_it_is_what_it_is_without_a_place() -> None:
    circuit = map_circuit()
    moment = full_moment(circuit)
    for options in ({}, {"context": "both", "pool": "spatial"}, {"pool": "spatial, global top"}):
        plain, placed = Backprop(Contrastive(**options)), Backprop(Contrastive(**options), at="V3")
        one, other = wired(plain, circuit), wired(placed, circuit)
        assert list(one.network.pathways) == list(other.network.pathways)
        found = proposals(placed, other, moment)
        assert_close(found, proposals(plain, one, moment), list(found), 1e-12)
        assert plain.objective_in(one.network) == placed.objective_in(other.network)


def test_it_says_where_it_stands_and_refuses_what_is_not_there() -> None:
    network = mlp(12, [9, 7], 4)
    rule = make_rule("bp-clapp++", at="V2")
    assert rule.stands_at(network) == "V2"
    assert rule.objective_in(network) == "contrastive hinge, lateral context, at V2"
    assert rule.objective_in(mlp(12, [9, 7])) == "contrastive hinge, lateral context, at the top"
    with pytest.raises(NetworkError, match=r"at: expected a population above the input \(V1, V2, readout\), got 'V7'"):
        make_rule("bp-clapp++", at="V7").wire(network)
    with pytest.raises(NetworkError, match="rectified units are no class scores"):
        make_rule("bp", at="V2").wire(mlp(12, [9, 7], 4, "relu"))


def test_both_contexts_are_own_ones_where_it_stands() -> None:
    network = make_rule("bp-clapp++both", at="V2").wire(mlp(12, [9, 7], 4))
    assert list(network.feedback) == ["V2=>V2", "V2=>V2:lateral"]


def test_cosines_that_are_1_by_construction_are_those_of_the_same_place() -> None:
    clapp, reference = make_rule("clapp++"), make_rule("bp-clapp++", at="V2")
    network = reference.wire(clapp.wire(mlp(12, [9, 7], 4)))
    assert by_construction(clapp, network, "V1->V2", reference), "its own objective at V2 is that of the reference"
    assert not by_construction(clapp, network, "retina->V1", reference)
    assert not by_construction(make_rule("bp"), network, "V1->V2", reference)
    assert not by_construction(make_rule("bp-clapp++"), network, "V1->V2", reference), "which stands at the readout"


@pytest.mark.parametrize("name", ["clapp++", "clapp++dfb", "dfa", "fa", "pc", "bp", "lpl", "softhebb", "mono-forward"])
def test_what_a_rule_learns_is_bit_for_bit_the_same_with_and_without_a_common_reference(name: str) -> None:
    rule = make_rule(name)
    circuit = drawn(convolutional((2, 9, 9), [(4, False), (5, True)], 4 if "target" in rule.needs else None))
    moments = [full_moment(circuit, seed=seed) for seed in range(4)]
    learned, told = [], {}
    reference = make_rule("bp-clapp++", at="V2")
    for recorders in ([], [AlignmentMeasures(2, reference)], [UpdateRecorder(1, reference)]):
        store = MemoryStore()
        options = {"store": store, "recorders": recorders, "seed": 3}
        simulation = simulated(circuit, make_rule(name), Synapses("adamw", lr=1e-2), **options)
        simulation.run(moments)
        learned.append(clones(simulation.weights))
        told = store.manifest
    plain, measured, compared = learned
    assert same(plain, {n: compared[n] for n in plain})
    assert same(compared, measured)
    added = set(compared) - set(plain)
    assert added <= {"V2=>V2"}
    assert told["reference_fixed"] == sorted(added)
    assert told["reference_at"] == "V2"
    cosines = [values["cosine"] for kind, _, _, _, _, values in store.records if kind == "alignment" and "cosine" in values]
    assert np.isfinite(cosines).any()


def test_a_manifest_tells_own_and_common_references_apart() -> None:
    store = MemoryStore()
    reference = make_rule("bp-clapp++", at="V2")
    circuit = dense_circuit()
    simulated(circuit, "dfa", store=store, recorders=[UpdateRecorder(1, reference)]).run([full_moment(circuit)])
    told = store.manifest
    assert told["reference_objective"] == "contrastive hinge, lateral context, at V2"
    assert (told["reference_at"], told["reference_fixed"]) == ("V2", ["V2=>V2"])
    assert told["own_reference_objective"] == "cross-entropy, at the top"
    assert not next(p for p in told["network"]["pathways"] if p["name"] == "V2=>V2")["plastic"]
    assert {r[1] for r in store.records if r[0] == "alignment"} == {"retina->V1", "V1->V2"}, "nothing above it"


def test_the_common_place_is_the_highest_population_of_the_same_shape() -> None:
    networks = {"a": mlp(12, [9, 7]), "b": mlp(12, [9, 7], 4), "c": mlp(12, [9, 6], 4)}
    assert highest_shared({"a": networks["a"], "b": networks["b"]}) == "V2"
    assert highest_shared(networks) == "V1"
    assert highest_shared({"b": networks["b"]}) == "readout"
    with pytest.raises(OptionError, match="have no population in common"):
        highest_shared({"a": mlp(12, [9]), "b": mlp(12, [8])})


def test_rules_that_score_other_cells_are_compared_on_pathways_apart(digits) -> None:
    """CLAPP++ scores the top in 2x2 cells; a reference of one cell cannot use its weights, and is one for all rules."""
    rules = {name: make_rule(name) for name in ("clapp++", "clapp++gap", "dfa")}
    found = common_reference("bp-clapp++", rules, digits, "conv:4M-6M-6M")
    shapes, words = {}, set()
    for name, rule in rules.items():
        reference = found[name].reference
        network = convolutional(digits.shape, [(4, True), (6, True), (6, True)], 10 if name == "dfa" else None)
        network = reference.wire(rule.wire(network))
        pathway = reference.objective.pathway_names("V3", network.top)[0]
        shapes[name] = (pathway, network.pathways[pathway].weight_shape)
        words.add(reference.objective_in(network).rpartition(",")[0])
    assert words == {"contrastive hinge, lateral context, 1x1 cells"}
    assert {shape for _, shape in shapes.values()} == {(6, 6)}
    assert [pathway for pathway, _ in shapes.values()] == ["V3=>V3:reference", "V3=>V3", "V3=>V3"]


def test_what_cannot_be_a_common_reference_is_refused_before_anything_runs(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OptionError, match=r"reference: expected a rule of backprop \(.*bp-clapp\+\+.*\), got 'dfa'"):
        compare_rules.run(str(out), rules=["clapp++", "dfa"], reference="dfa", tiny=True)
    with pytest.raises(OptionError, match=r"no rule can be compared with 'bp'.*class scores"):
        compare_rules.run(str(out), rules=["clapp++", "dfa"], reference="bp", tiny=True)
    with pytest.raises(OptionError, match="rule 'nothing' does not exist"):
        compare_rules.run(str(out), rules=["clapp++", "dfa"], reference="nothing", tiny=True)
    with pytest.raises(OptionError, match="has no 'V9'"):
        compare_rules.run(str(out), rules=["clapp++", "dfa"], reference="bp-clapp++:at=V9", tiny=True)
    assert not out.exists()


RULES = ["clapp++", "ff", "dfa", "bp-clapp++", "bp"]


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("common") / "out"
    compare_rules.run(str(out), rules=RULES, reference="bp-clapp++", tiny=True, workers=1)
    return out


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("own") / "out"
    compare_rules.run(str(out), rules=RULES, tiny=True, workers=1)
    return out


ONE = "contrastive hinge, lateral context"


def test_tables_say_with_which_reference_cosines_are(common: Path, own: Path) -> None:
    shared, several = (json.loads((out / "results.json").read_text()) for out in (common, own))
    line, drawn_only, left_out = (*shared["notes"][0].split("; its"), shared["notes"][1])
    assert line == (
        f"cosines of CLAPP++; DFA, supervised; BP-CLAPP++; BP, supervised: BP of {ONE}, at V4 (BP-CLAPP++ learns by it)"
    )
    assert drawn_only == " prediction weights do not learn in DFA, supervised; BP, supervised: they stay as they are drawn"
    assert left_out.startswith("no cosines of FF (label in the image): bp-clapp++ at V4 cannot be their reference (")
    assert several["notes"] == [
        f"cosines of CLAPP++: BP of {ONE}, at the top (BP-CLAPP++ learns by it)",
        "cosines of FF (label in the image): BP of goodness, at the top (no run of this comparison learns by it)",
        "cosines of DFA, supervised: BP of cross-entropy, at the top (BP, supervised learns by it)",
    ] or several["notes"][1].endswith("(no run of this comparison learns by it)")
    columns = {record["rule"]: record[COLUMN] for record in shared["table"]}
    assert columns["DFA, supervised"] == f"BP of {ONE}, at V4"
    assert columns["CLAPP++"] == f"BP of {ONE}, at the top"
    assert columns["FF (label in the image)"] is None
    assert {r["rule"]: r[COLUMN] for r in several["table"]}["BP, supervised"] is None
    text = analysis.read_results(common).text()
    assert all(note in text for note in shared["notes"])


def test_pages_and_notebooks_say_so_too(common: Path) -> None:
    page = (common / "report.html").read_text()
    assert "cosines of CLAPP++; DFA, supervised; BP-CLAPP++; BP, supervised: BP of contrastive hinge" in page
    assert "no cosines of FF (label in the image)" in page
    assert "cosines of CLAPP++; DFA" in analysis.open_comparison(common)._repr_html_()


def test_learning_is_the_same_with_both_kinds_of_references(common: Path, own: Path) -> None:
    for rule in RULES:
        one, other = (analysis.open_trajectory(out / rule / "seed-0") for out in (common, own))
        for name, group in other["weights"].children.items():
            xr.testing.assert_identical(group["weight"].load(), one["weights"][name]["weight"].load())


def test_a_rule_keeps_its_own_counterpart_under_a_common_reference(common: Path, own: Path) -> None:
    """Readouts and paths are held against the run of a rule's own objective, whatever the cosines are measured against."""
    for out in (common, own):
        references = analysis.own_references(analysis.open_runs(out))
        assert {rule: references.get(rule) for rule in ("clapp++", "dfa", "bp-clapp++", "bp")} == {
            **{"clapp++": "bp-clapp++", "dfa": "bp", "bp-clapp++": "bp-clapp++", "bp": "bp"}
        }
        assert "ff" not in references


def test_rankings_say_whether_they_compare_different_objectives(common: Path, own: Path) -> None:
    one, several = (analysis.open_comparison(out) for out in (common, own))
    assert OWN not in answers(one).how_close
    assert f"one reference for all rules (BP of {ONE}, at V4)" in answers(one).how_close
    assert OWN in answers(several).how_close
    found = {out: relation(analysis.open_runs(out), y="accuracy") for out in (common, own)}
    assert all(OWN not in line for line in relation_in_words(found[common]))
    assert found[own].attrs["ranking"] == OWN
    assert any(OWN in line for line in relation_in_words(found[own]))


def test_references_are_told_apart_by_objective_and_place() -> None:
    own = {"own_reference_objective": "x, at the top"}
    a = {"reference": "bp", "reference_objective": "x, at the top", "reference_at": "V4", **own}
    b = {**a, "reference_objective": "x, at V4", "own_reference_objective": "y, at the top"}
    c = {**a, "reference_objective": "x, at V3", "reference_at": "V3"}
    assert [(one.words, one.rules) for one in cosine_references({"a": a, "b": b})] == [("BP of x, at V4", ["a", "b"])]
    assert is_chosen({"a": a, "b": b})
    assert not is_chosen({"a": a})
    words = [one.words for one in cosine_references({"a": a, "c": c, "none": {}})]
    assert words == ["BP of x, at the top", "BP of x, at V3"]
    assert (ranking_in_words({"a": a, "b": b}), ranking_in_words({"a": a, "c": c})) == ("", OWN)
    other_top = {**a, "reference_at": "V6"}
    assert [one.rules for one in cosine_references({"a": a, "other": other_top})] == [["a", "other"]], "each at its own top"


def test_a_common_reference_is_kept_when_a_comparison_goes_on(common: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="was made with reference = bp-clapp"):
        compare_rules.run(str(common), reference="bp-infonce", tiny=True, resume=True, workers=1)
    again = compare_rules.run(str(common), tiny=True, resume=True, workers=1)
    assert again.notes[0].startswith("cosines of CLAPP++; DFA, supervised; BP-CLAPP++")


def test_the_alignment_over_training_says_its_reference(tmp_path: Path) -> None:
    found = update_alignment.run(str(tmp_path / "out"), tiny=True, networks=["conv:4M-6M-6"], feedback=["lateral", "direct"])
    (note,) = found.notes
    assert "BP of contrastive softplus, lateral context, 1x1 cells, at the top" in note
    assert note.endswith("(no run of this comparison learns by it)")
    assert all(record[COLUMN] for record in found.table)
