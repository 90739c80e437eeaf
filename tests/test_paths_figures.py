"""Figures of paths say what they show: rules, seeds, intervals; and there is none where nothing was recorded."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from path_trees import many_runs, one_run

from analysis.drawing import png
from analysis.path_figures import PATH_FIGURES, accumulated_alignment_figure
from neurossl.errors import TrajectoryError


def runs(rules: tuple[str, ...] = ("dfa", "bp"), seeds: int = 3) -> xr.DataTree:
    shapes = {"retina->V1": (6, 16), "V1->V2": (5, 6), "V2=>V1": (6, 5)}
    made: dict[str, list[dict[str, np.ndarray]]] = {rule: [] for rule in rules}
    for seed in range(seeds):
        for number, rule in enumerate(rules):
            start, noise = np.random.default_rng(seed), np.random.default_rng([seed, number, 1])
            made[rule].append(
                {
                    n: start.standard_normal(s) + noise.standard_normal((4, *s)).cumsum(0) * [[[0]], [[1]], [[1]], [[1]]]
                    for n, s in shapes.items()
                }
            )
    return many_runs(made, references=["BP"] + ["None"] * (len(rules) - 1))


def texts(figure) -> str:  # type: ignore[no-untyped-def]
    legend = [text.get_text() for text in figure.legends[0].get_texts()] + [figure.legends[0].get_title().get_text()]
    axes = [t for panel in figure.axes for t in (panel.get_xlabel(), panel.get_ylabel(), panel.get_title())]
    return "\n".join([*legend, *axes])


@pytest.mark.parametrize("name", list(PATH_FIGURES))
def test_every_figure_is_drawn_of_many_runs_and_of_something_with_a_tree(name: str) -> None:
    heading, draw = PATH_FIGURES[name]
    tree = runs()
    figure = draw(SimpleNamespace(tree=tree))
    assert figure is not None
    assert heading
    assert png(figure).startswith(b"\x89PNG")
    if name != "receptive_fields":
        said = texts(figure)
        assert "DFA" in said
        if name != "path_plane":
            assert "n = 3" in said
            assert "95 % intervals" in said


@pytest.mark.parametrize("name", list(PATH_FIGURES))
def test_one_seed_one_rule_and_a_single_run_have_no_interval(name: str) -> None:
    draw = PATH_FIGURES[name][1]
    weights = {n: node["weight"].values[0, 0] for n, node in runs()["weights"].children.items()}
    for tree in (runs(seeds=1), one_run(weights)):
        figure = draw(tree)
        if name == "accumulated_alignment" and "rule" in tree.attrs:
            assert figure is None, "a single run names no reference to compare with"
            continue
        assert figure is not None
        png(figure)
        if name not in ("path_plane", "receptive_fields"):
            assert "one seed: no interval" in texts(figure)


@pytest.mark.parametrize("name", list(PATH_FIGURES))
def test_no_weights_no_figure(name: str) -> None:
    draw = PATH_FIGURES[name][1]
    assert draw(xr.DataTree()) is None
    with pytest.raises(TrajectoryError, match="expected the tree of runs"):
        draw("runs")


def test_the_reference_itself_is_left_out_and_single_updates_stand_beside() -> None:
    tree = runs()
    alignment = xr.Dataset(
        {"cosine": (("rule", "seed", "event", "pathway"), np.full((2, 3, 4, 1), 0.7))},
        {
            "rule": ["dfa", "bp"],
            "seed": [0, 1, 2],
            "event": range(4),
            "pathway": ["V1->V2"],
            "observers_seen": ("event", np.arange(4) * 100),
        },
    )
    plain = accumulated_alignment_figure(tree)
    tree["alignment"] = xr.DataTree(alignment)
    figure = accumulated_alignment_figure(tree)
    assert plain is not None
    assert figure is not None
    assert "DFA (n = 3)" in texts(figure)
    assert "BP (n" not in texts(figure)
    assert "single updates" in texts(figure)
    assert "single updates" not in texts(plain)
    drawn = [
        line.get_ydata() for line in figure.axes[1].lines if np.size(line.get_ydata()) == 4 and line.get_linestyle() == ":"
    ]
    assert len(drawn) == 1
    np.testing.assert_allclose(drawn[0], 0.7)
    assert len(figure.axes[0].collections) == 2, "chance, and the interval of the rule"


def test_a_ceiling_is_drawn_where_there_is_a_twin() -> None:
    tree = runs(("dfa", "bp", "twin"))
    figure = accumulated_alignment_figure(tree, "bp", ceiling="twin")
    assert figure is not None
    assert "the reference and its twin" in texts(figure)
    assert len([line for line in figure.axes[0].lines if line.get_linestyle() == "--" and line.get_color() == "0.25"]) == 1


@pytest.mark.parametrize("order", [("dfa", "bp"), ("bp", "dfa")])
def test_a_ceiling_is_drawn_whichever_rule_comes_first(order: tuple[str, ...]) -> None:
    tree, twins = runs(order), {"bp": runs(("bp",))}
    figure = accumulated_alignment_figure(tree, reference={"dfa": "bp"}, ceiling=twins)
    assert figure is not None
    assert "BP and its twin on other stimuli" in texts(figure).replace("\n", " ")
    plain = accumulated_alignment_figure(tree, reference="bp", ceiling=runs(("bp",)))
    assert plain is not None
    assert "the reference and its twin on other stimuli" in texts(plain).replace("\n", " ")
