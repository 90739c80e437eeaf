"""Figures of paths: where the weights go, how that compares with backprop's way, and what they become.

Each function takes the tree of many runs (rule, seed), or anything with such a ``tree``, and returns a
`matplotlib.figure.Figure`, or None if nothing of the kind was recorded. Lines are means over seeds, bands their 95 %
intervals (Student's t); the legend says of how many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import ref

import numpy as np
import xarray as xr

from analysis.distances import weight_drift
from analysis.drawing import literal
from analysis.feedback_weights import feedback_angle
from analysis.figures import close_figure, panels_for, style
from analysis.path_shape import path_geometry, principal_axes
from analysis.paths import accumulated_alignment
from analysis.pathway_weights import recorded_pathways
from analysis.references import own_references
from analysis.spectra import weight_spectrum
from analysis.statistics import over_seeds
from analysis.weight_images import receptive_fields
from neurossl.errors import TrajectoryError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_FIELDS = 8
"""Neurons of each rule whose receptive fields are shown: those whose weights are largest."""


MOST_RANKS = 64
"""Singular values of a matrix that are drawn."""
_SPECTRA: list[Any] = []
_CEILINGS = ("--", "-.", (0, (5, 1, 1, 1, 1, 1)))
"""Lines of the ceilings of several references."""
_CHANCE = ("chance", "chance_shared_inputs", "chance_shared_outputs")


def accumulated_alignment_figure(
    runs: Any, reference: xr.DataTree | str | None = None, ceiling: Any = None
) -> Figure | None:
    """Return the cosine of the accumulated change with that of the reference run over training, one panel per pathway.

    Parameters
    ----------
    runs : DataTree or object with a ``tree``
    reference : DataTree or str, optional
        As for `accumulated_alignment`; each rule's own by default.
    ceiling : DataTree, str or mapping, optional
        As for `accumulated_alignment`; drawn dashed. The twins that a `Comparison` has by default.

    Notes
    -----
    Beside it, dotted, the cosine of the single updates, where those were compared with the same reference, and in grey what
    unrelated changes would have (95 %). A rule that is its own reference is left out.
    """
    tree = _tree(runs)
    known = getattr(runs, "accumulated", None) if reference is None and ceiling is None else None
    try:
        compared_with = own_references(tree) if reference is None else reference
        found = known if known is not None else accumulated_alignment(tree, compared_with, _forward(tree), ceiling=ceiling)
    except TrajectoryError:
        return None
    single = _single(tree)
    said = _compared_with_own(tree, reference)
    shown = [p for p in map(str, found["pathway"].values) if bool(found["cosine"].sel(pathway=p).notnull().any())]
    if not shown:
        return None
    rules = _rules(tree)
    own = found["by_construction"].values if "by_construction" in found.coords else np.zeros(len(rules), bool)
    if np.all(own):  # every rule is its own reference
        return None
    figure, panels = panels_for(len(shown), "cosine of the change of the weights so far with that of backprop's own path")
    for panel, pathway in zip(panels, shown, strict=True):
        here = found.sel(pathway=pathway)
        chance = xr.concat([here[name] for name in _CHANCE], "level").max("level")
        if "rule" in chance.dims:
            chance = chance.sel(rule=~own)
        level = 1.96 * chance.max([d for d in chance.dims if d != "snapshot"])
        x = _moments(here)
        panel.fill_between(x, -level, level, color="0.85", lw=0, label="95 % of unrelated changes (widest of all rules)")
        for rule, is_own in zip(_rules(tree), own, strict=True):
            if is_own:
                continue
            look = style(_order(tree), rule)
            _curve(panel, _of(here["cosine"], rule), look, _label(tree, rule, here["cosine"]))
            has_curve = bool(_of(here["cosine"], rule).notnull().any())
            if single is not None and has_curve and rule in said and pathway in single["pathway"].values:
                curve = over_seeds(_of(single.sel(pathway=pathway), rule))["mean"].dropna("event")
                if curve.sizes["event"]:
                    thin = {"color": look["color"], "lw": 0.8, "ls": ":"}
                    panel.plot(_moments(curve, "event"), curve, **thin)
        if "ceiling" in here:
            rows = dict(zip(_rules(tree), _rows(here["ceiling"]), strict=True))
            for number, (name, of) in enumerate(_by_reference(tree, compared_with).items()):
                lines = [rows[rule] for rule in of if np.isfinite(rows[rule]).any()]
                if lines:
                    drawn: dict[str, Any] = {"color": "0.25", "lw": 1.3, "ls": _CEILINGS[number % len(_CEILINGS)]}
                    panel.plot(x, lines[0], label=f"{name} and its twin on other stimuli", **drawn)
        panel.set_title(_arrow(pathway))
        panel.set_ylim(-0.15, 1.05)
        panel.axhline(0, color="0.6", lw=0.8)
    if single is not None and said:
        panels[0].plot([], [], color="0.3", lw=0.8, ls=":", label="single updates, each at the weights of its own run")
    close_figure(figure, panels, "observers seen", "cosine", _seeds(tree))
    return figure


def drift_band_figure(runs: Any) -> Figure | None:
    """Return how far the weights are from the start over training, one panel per feedforward pathway."""
    tree = _tree(runs)
    if not _forward(tree):
        return None
    return _over_training(
        tree, weight_drift(tree, _forward(tree)), "distance of the weights from the start", "|W(t) - W(0)| / |W(0)|"
    )


def length_figure(runs: Any) -> Figure | None:
    """Return the straightness of the path of each feedforward pathway, beside that of unrelated steps."""
    tree = _tree(runs)
    forward = _forward(tree)
    if not forward:
        return None
    found = path_geometry(tree, forward)
    title = "how straight the path of the weights is, between the recorded snapshots"
    figure, (panel,) = panels_for(1, title, width=8.5, height=4.2)
    places = np.arange(len(forward))
    offsets = np.linspace(-0.3, 0.3, max(2, len(_rules(tree))))
    for number, rule in enumerate(_rules(tree)):
        values = over_seeds(_with_seed(_of(found["straightness"], rule)))
        look = {**style(_order(tree), rule), "linestyle": "none"}
        half = values["half_width"].fillna(0).values
        label = _label(tree, rule, found["straightness"])
        x = places + (offsets[number] if len(_rules(tree)) > 1 else 0)
        panel.errorbar(x, values["mean"].values, half, ms=6, capsize=2.5, label=label, **look)
    others = [d for d in found["straightness_if_random"].dims if d != "pathway"]
    random = found["straightness_if_random"].mean(others).values
    ends = (places - 0.42, places + 0.42)
    panel.hlines(random, *ends, color="0.4", ls="--", lw=1.4, label="unrelated steps of these lengths")
    panel.set_xticks(places, [_arrow(p) for p in forward])
    panel.set_ylim(0, 1.05)
    panel.grid(axis="y", color="0.9")
    bars = "bars: 95 % intervals over seeds (Student's t)" if _count(tree) > 1 else "one seed: no interval"
    close_figure(figure, [panel], "pathway", "distance of the ends / length of the path", bars)
    return figure


def plane_figure(runs: Any) -> Figure | None:
    """Return the paths of all rules in their common principal plane, one panel per pathway, of the first seed.

    Each path is divided by its largest distance from the start: its direction is seen, also of a rule that moves little.
    """
    tree = _tree(runs)
    forward = _forward(tree)
    if not forward:
        return None
    found = principal_axes(tree, forward, axes=2, scaled=True)
    seed = ""
    if "seed" in found.dims:
        seed = f", seed {found['seed'].values[0]} of {found.sizes['seed']}"
        found = found.isel(seed=0)
    figure, panels = panels_for(len(forward), f"paths of the weights in the principal plane of all rules{seed}", height=3.1)
    for panel, pathway in zip(panels, forward, strict=True):
        here = found.sel(pathway=pathway)
        for rule in _rules(tree):
            scores = _of(here["score"], rule).dropna("snapshot").values
            if len(scores):
                look = style(_order(tree), rule)
                panel.plot(scores[:, 0], scores[:, 1], lw=1.3, ms=3.5, label=_name(tree, rule), **look)
                panel.plot(*scores[-1], ms=8, mec="k", mew=0.8, color=look["color"], marker=look["marker"], ls="none")
        share = _of(here["explained_variance"], _rules(tree)[0] if "rule" not in found.dims else None)
        share = share if "rule" not in share.dims else share.max("rule")
        percent = " + ".join(f"{100 * float(s):.0f}" for s in share.values if np.isfinite(s))
        panel.set_title(f"{_arrow(pathway)}\n{percent} % of the variance", fontsize=10)
        panel.plot(0, 0, "+", color="0.2", ms=9, label="start")
        panel.axhline(0, color="0.9", lw=0.8, zorder=0)
        panel.axvline(0, color="0.9", lw=0.8, zorder=0)
    walk = " + ".join(f"{100 * s:.0f}" for s in found["explained_if_random"].values if np.isfinite(s))
    note = f"each path divided by its largest change; framed: the end; a random walk would have {walk} % on its own axes"
    close_figure(figure, panels, "axis 1", "axis 2", note)
    return figure


def rank_figure(runs: Any) -> Figure | None:
    """Return the effective rank of the weights over training, one panel per feedforward pathway."""
    tree = _tree(runs)
    found = _spectrum(tree)
    if found is None:
        return None
    title = "effective rank of the weights (exp of the entropy of their singular values)"
    return _over_training(tree, found["effective_rank"], title, "effective rank")


def spectrum_figure(runs: Any) -> Figure | None:
    """Return the singular values after learning, with those before, one panel per feedforward pathway."""
    tree = _tree(runs)
    found = _spectrum(tree)
    if found is None:
        return None
    values = found["singular_value"]
    values = values.isel(component=_ranks(values.sizes["component"]))
    shown = [str(p) for p in values["pathway"].values]
    figure, panels = panels_for(len(shown), "singular values of the weights, after learning")
    for panel, pathway in zip(panels, shown, strict=True):
        here = values.sel(pathway=pathway)
        for rule in _rules(tree):
            one = _of(here, rule).dropna("snapshot", how="all").dropna("component", how="all")
            if one.sizes["snapshot"]:
                look = style(_order(tree), rule)
                _curve(panel, one.isel(snapshot=-1), look, _label(tree, rule, values), "component")
                first = one.isel(snapshot=0)
                start = first.mean("seed") if "seed" in first.dims else first
                panel.plot(start["component"], start, color="0.35", lw=1.2, ls="--", label="before learning", zorder=5)
        panel.set_title(_arrow(pathway))
        panel.set_xscale("log")
        panel.set_yscale("log")
    finite = values.where(values > 0)
    panels[0].set_ylim(bottom=max(float(finite.min()), 1e-3 * float(finite.max())))
    close_figure(figure, panels, "rank of the singular value", "singular value", _seeds(tree))
    return figure


def feedback_figure(runs: Any) -> Figure | None:
    """Return the angle of feedback weights with the transposed weights forward over training, one panel per pathway."""
    tree = _tree(runs)
    try:
        found = feedback_angle(tree)
    except TrajectoryError:
        return None
    shown = [str(p) for p in found["pathway"].values if bool(found["angle"].sel(pathway=p).notnull().any())]
    figure, panels = panels_for(len(shown), "angle of the feedback weights with the transposed path forward")
    for panel, pathway in zip(panels, shown, strict=True):
        here = found.sel(pathway=pathway)
        width = 1.96 * float(here["deviation_by_chance"].max())
        panel.axhspan(90 - width, 90 + width, color="0.85", lw=0, label="95 % of unrelated weights")
        for rule in _rules(tree):
            _curve(panel, _of(here["angle"], rule), style(_order(tree), rule), _label(tree, rule, here["angle"]))
        panel.set_title(_arrow(pathway))
        panel.axhline(90, color="0.6", lw=0.8)
    low = min(60.0, float(found["angle"].min()) - 5)
    panels[0].set_ylim(max(0.0, low), max(95.0, float(found["angle"].max()) + 5))
    close_figure(figure, panels, "observers seen", "angle (degrees)", _seeds(tree))
    return figure


def receptive_field_figure(runs: Any, pathway: str | None = None, neurons: int = MOST_FIELDS) -> Figure | None:
    """Return receptive fields before and after learning as images: rows are rules, columns neurons, of the first seed.

    The neurons are those whose weights change most, each rule's own; colours are symmetric about 0, each row on its own
    scale.
    """
    from matplotlib.figure import Figure

    tree = _tree(runs)
    try:
        fields = receptive_fields(tree, pathway)
    except TrajectoryError:
        return None
    seed = f", seed {fields['seed'].values[0]}" if "seed" in fields.dims else ""
    fields = fields.isel(seed=0) if "seed" in fields.dims else fields
    rows: list[tuple[str, np.ndarray]] = []
    for rule in _rules(tree):
        one = _of(fields, rule)
        first, last = (one.isel(snapshot=at).values.astype(float) for at in _ends(one))
        if not (np.isfinite(first).all() and np.isfinite(last).all()):
            continue
        moved = np.square(last - first).reshape(len(first), -1).sum(1)
        chosen = np.argsort(-moved)[:neurons]
        rows.append((_name(tree, rule), np.concatenate([_images(first[chosen[:2]]), _images(last[chosen])])))
    if not rows:
        return None
    columns = max(len(images) for _, images in rows)
    figure = Figure(figsize=(0.85 * columns + 2.2, 0.95 * len(rows) + 1.2), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, ((name, images), panels) in enumerate(zip(rows, grid, strict=True)):
        scale = np.abs(images).max() or 1.0
        for panel in panels:
            panel.set_xticks([])
            panel.set_yticks([])
            panel.spines[:].set_color("0.7")
        for panel, image in zip(panels, images, strict=False):
            shown = image[..., 0] if image.shape[-1] == 1 else 0.5 + 0.5 * image / scale
            panel.imshow(shown, cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
        panels[0].set_ylabel(literal(name), rotation=0, ha="right", va="center", fontsize=9)
        before = min(2, len(images) - 1)
        for number, panel in enumerate(panels[: len(images)]):
            if row == 0:
                panel.set_title("before" if number < before else "after", fontsize=8)
    where = _arrow(str(fields.attrs.get("pathway", "")))
    figure.suptitle(f"receptive fields of the neurons that change most, {where}{seed}", fontsize=11)
    figure.supxlabel("weights; red: positive, blue: negative, each row on its own scale", fontsize=9)
    return figure


def _tree(runs: Any) -> xr.DataTree:
    tree = runs if isinstance(runs, xr.DataTree) else getattr(runs, "tree", None)
    if not isinstance(tree, xr.DataTree):
        raise TrajectoryError(f"expected the tree of runs, or something that has one as .tree, got {type(runs).__name__}")
    return tree


def _forward(tree: xr.DataTree) -> list[str]:
    return [name for name in recorded_pathways(tree) if "->" in name]


def _rules(tree: xr.DataTree) -> list[str]:
    """Return the rules of a tree, in its order; of a single run the one that it has."""
    for node in tree.subtree:
        if "rule" in node.dims and "rule" in node.coords:
            return [str(rule) for rule in node.coords["rule"].values]
    return [str(tree.attrs.get("rule", "this run"))]


def _order(tree: xr.DataTree) -> Any:
    """Return what `figures.style` takes the place of a rule from."""
    return SimpleNamespace(rules=dict.fromkeys(_rules(tree)))


def _by_reference(tree: xr.DataTree, references: xr.DataTree | str | Mapping[str, str]) -> dict[str, list[str]]:
    """Return the name of every reference, with the rules that are held against it."""
    if not isinstance(references, Mapping):
        return {"the reference": _rules(tree)}
    found: dict[str, list[str]] = {}
    for rule, name in references.items():
        found.setdefault(_name(tree, str(name)), []).append(str(rule))
    return found


def _name(tree: xr.DataTree, rule: str) -> str:
    for node in tree.subtree:
        if "label" in node.coords and node.coords["label"].dims == ("rule",):
            labels = node.coords["label"].values
            return literal(str(labels[_rules(tree).index(rule)]))
    return literal(rule)


def _label(tree: xr.DataTree, rule: str, values: xr.DataArray) -> str:
    """Return the name of a rule and the number of seeds that it has values of."""
    one = _of(values, rule)
    if "seed" not in one.dims:
        return _name(tree, rule)
    count = int(one.notnull().any([d for d in one.dims if d != "seed"]).sum())
    return f"{_name(tree, rule)} (n = {count})"


def _of(values: xr.DataArray, rule: str | None) -> xr.DataArray:
    return values.sel(rule=rule) if "rule" in values.dims and rule is not None else values


def _rows(values: xr.DataArray) -> np.ndarray:
    """Return the means over seeds of all rules, (rules, snapshots)."""
    mean = _with_seed(values).mean("seed")
    return (mean if "rule" in mean.dims else mean.expand_dims("rule")).transpose("rule", "snapshot").values


def _with_seed(values: xr.DataArray) -> xr.DataArray:
    return values if "seed" in values.dims else values.expand_dims("seed")


def _count(tree: xr.DataTree) -> int:
    return max((node.sizes["seed"] for node in tree.subtree if "seed" in node.dims), default=1)


def _seeds(tree: xr.DataTree) -> str:
    return "bands: 95 % intervals of the mean over seeds (Student's t)" if _count(tree) > 1 else "one seed: no interval"


def _single(tree: xr.DataTree) -> xr.DataArray | None:
    """Return the cosine of single updates, trusted ones only, by event and pathway; None if none was recorded."""
    if "alignment" not in tree.children or "cosine" not in tree.children["alignment"].data_vars:
        return None
    measures = tree.children["alignment"].to_dataset(inherit=True)
    cosine = measures["cosine"]
    if "trustworthy" in measures:
        cosine = cosine.where(measures["trustworthy"] == 1)
    if "by_construction" in measures.coords:
        cosine = cosine.where(~measures["by_construction"])
    return _with_seed(cosine)


def _compared_with_own(tree: xr.DataTree, reference: xr.DataTree | str | None) -> list[str]:
    """Return the rules whose single updates were compared with the rule that their paths are compared with."""
    try:
        own = own_references(tree)
    except TrajectoryError:
        return []
    if isinstance(reference, xr.DataTree):
        return []
    return [rule for rule, name in own.items() if reference is None or reference in (name, _name(tree, name))]


def _moments(values: xr.DataArray | xr.Dataset, axis: str = "snapshot") -> np.ndarray:
    seen = values.coords.get("observers_seen")
    if seen is None or seen.dims[-1:] != (axis,):
        return values[axis].values
    return seen.values if seen.ndim == 1 else seen.max([d for d in seen.dims if d != axis]).values


def _curve(panel: Axes, values: xr.DataArray, look: dict[str, Any], label: str, axis: str = "snapshot") -> None:
    """Draw the mean over seeds with its 95 % interval."""
    x = _moments(values, axis)
    found = over_seeds(_with_seed(values))
    mean, half = found["mean"].values, found["half_width"].values
    there = np.isfinite(mean)
    if not there.any():
        return
    panel.plot(x[there], mean[there], label=label, ms=4, markevery=max(1, int(there.sum()) // 8), lw=1.5, **look)
    with_interval = there & np.isfinite(half)
    if with_interval.any():
        low, high = (mean - half)[with_interval], (mean + half)[with_interval]
        panel.fill_between(x[with_interval], low, high, color=look["color"], alpha=0.15, lw=0)


def _over_training(tree: xr.DataTree, values: xr.DataArray, title: str, y: str) -> Figure | None:
    shown = [str(p) for p in values["pathway"].values if bool(values.sel(pathway=p).notnull().any())]
    if not shown:
        return None
    figure, panels = panels_for(len(shown), title)
    for panel, pathway in zip(panels, shown, strict=True):
        here = values.sel(pathway=pathway)
        for rule in _rules(tree):
            _curve(panel, _of(here, rule), style(_order(tree), rule), _label(tree, rule, here))
        panel.set_title(_arrow(pathway))
    panels[0].set_ylim(bottom=0)
    close_figure(figure, panels, "observers seen", y, _seeds(tree))
    return figure


def _spectrum(tree: xr.DataTree) -> xr.Dataset | None:
    """Return the singular values of a tree; those of the last one are kept, since two figures are of them."""
    if not _SPECTRA or _SPECTRA[0]() is not tree:
        forward = _forward(tree)
        try:
            found = weight_spectrum(tree, forward) if forward else None
        except TrajectoryError:
            found = None  # only chosen synapses were recorded
        _SPECTRA[:] = [ref(tree), found]
    return _SPECTRA[1]


def _ranks(count: int) -> np.ndarray:
    """Return the places of the ranks that are drawn: so many at equal distances on a logarithmic axis."""
    return np.unique(np.geomspace(1, max(1, count), MOST_RANKS).round().astype(int)) - 1


def _ends(values: xr.DataArray) -> Sequence[int]:
    """Return the first and the last snapshot that hold anything."""
    corner = values.isel(neuron=0, channel=0, y=0, x=0).values
    there = np.flatnonzero(np.isfinite(corner))
    return (int(there[0]), int(there[-1])) if there.size else (0, -1)


def _images(fields: np.ndarray) -> np.ndarray:
    """Return receptive fields (neuron, channel, y, x) as images: three channels in colour, else the first one."""
    shown = fields if fields.shape[1] == 3 else fields[:, :1]
    return np.moveaxis(shown, 1, -1)


def _arrow(pathway: str) -> str:
    return literal(pathway.replace("->", " → ").replace("=>", " ⇒ "))


PATH_FIGURES: dict[str, tuple[str, Callable[[Any], Figure | None]]] = {
    "accumulated_alignment": ("Do the weights end up where backprop's do?", accumulated_alignment_figure),
    "path_drift": ("How far the weights have moved", drift_band_figure),
    "straightness": ("How straight the paths are", length_figure),
    "path_plane": ("The paths of all rules in one plane", plane_figure),
    "effective_rank": ("How many directions the weights carry", rank_figure),
    "spectrum": ("Singular values of the weights", spectrum_figure),
    "feedback_angle": ("Do forward and feedback weights align?", feedback_figure),
    "receptive_fields": ("What the first neurons respond to", receptive_field_figure),
}
"""Figures of paths: name -> (heading, function of the tree of many runs)."""
