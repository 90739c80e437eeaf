"""Table, sentences and charts of `theory_equivalence`, from what its conditions have stored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import analysis
from analysis.cosine_references import references_in_words
from analysis.results import Chart
from analysis.statistics import NO_INTERVAL, Estimate, estimate
from analysis.tables import put

F = {"linear": "linear f", "softplus": "softplus f"}


@dataclass(frozen=True)
class Found:
    """What was found under one condition.

    Attributes
    ----------
    about : mapping
        The condition.
    seeds : tuple of int
    cosine, error : array, (seeds, batches, layers)
        Cosine, and relative error; NaN where the comparison means nothing.
    residual : float
        Largest of the predictions that were to be optimal.
    untrusted : int
        Comparisons left out.
    """

    about: Mapping[str, Any]
    seeds: tuple[int, ...]
    cosine: np.ndarray
    error: np.ndarray
    residual: float
    untrusted: int

    @property
    def name(self) -> str:
        """Of the condition, in tables."""
        return (
            f"{self.about['curve']}, {F[self.about['contrast']]}"
            if self.about["figure"] in ("3a", "4b")
            else self.about["curve"]
        )

    @property
    def errors(self) -> list[float]:
        """Largest relative error of every layer, over seeds and batches."""
        return [float(error) for error in np.nanmax(self.error, axis=(0, 1))]

    @property
    def largest_error(self) -> float:
        """Over layers, too."""
        return max(self.errors)

    def over(self, values: np.ndarray) -> list[Estimate]:
        """Return mean and 95 % interval per layer: over seeds where there are several, else over batches."""
        samples = np.nanmean(values, axis=1) if len(values) > 1 else values[0]
        return [estimate(layer) for layer in samples.T]


def report(comparison: analysis.Comparison, options: Mapping[str, Any]) -> analysis.Results:
    """Return the results of all conditions.

    Parameters
    ----------
    comparison : Comparison
        One label per condition.
    options : mapping
        With what the protocol was run.
    """
    conditions = {label: _read(comparison, label) for label in comparison.rules}
    everything = list(conditions.values())
    depth = max(found.cosine.shape[2] for found in everything)
    columns = ["figure", "condition", *(f"cosine, layer {n + 1}" for n in range(depth)), "largest relative error"]
    return analysis.Results(
        "theory_equivalence",
        "When is a local update equal to the backprop-derived one?",
        [_row(found) for found in everything],
        [*_bounds(everything), *_losses(everything), *_rivals(conditions), *_left_out(everything)],
        _charts(len(next(iter(everything)).cosine) > 1),
        _curves(everything),
        columns=columns,
        options=options,
        notes=references_in_words(comparison),
        curves=False,
    )


def _read(comparison: analysis.Comparison, label: str) -> Found:
    """Return what the runs of one condition, one per seed, have stored."""
    runs = comparison.rules[label]

    def gather(measure: str) -> np.ndarray:
        found = comparison.scalars(label, "alignment", measure)
        assert found is not None, "every condition records its alignment"
        values: np.ndarray = found.sel(pathway=runs[0].pathways).transpose("seed", "event", "pathway").values
        return values.round(12) if measure == "cosine" else values  # rounding of a cosine of 1 is no spread

    about = {**runs[0].about["condition"], "bound": runs[0].about["bound"]}
    residual = max(float(run.about["measured"]["largest distance of B from its optimum"]) for run in runs)
    seeds = tuple(int(run.about["seed"]) for run in runs)
    untrusted = sum(comparison.untrusted(label).values())
    return Found(about, seeds, gather("cosine"), gather("relative_error"), residual, untrusted)


def _row(found: Found) -> dict[str, Any]:
    """Return the row of a condition in the table."""
    record: dict[str, Any] = {"figure": found.about["figure"], "condition": found.name}
    for depth, value in enumerate(found.over(found.cosine), 1):
        put(record, f"cosine, layer {depth}", value)
    record["largest relative error"] = found.largest_error
    for depth, error in enumerate(found.errors, 1):
        record[f"largest relative error, layer {depth}"] = error
    record["bound of the relative error"] = found.about["bound"]
    record["bound holds"] = None if found.about["bound"] is None else found.largest_error < found.about["bound"]
    record["largest distance of B from its optimum"] = found.residual
    record |= {"seeds": found.cosine.shape[0], "batches": found.cosine.shape[1], "comparisons left out": found.untrusted}
    return record


def _curves(everything: Sequence[Found]) -> dict[str, list[dict[str, Any]]]:
    """Return what each chart draws."""
    members: dict[str, list[Found]] = {}
    for found in everything:
        figure, is_equal = found.about["figure"], found.about["bound"] is not None
        shown = [f"figure {figure}", *(["figure further"] if figure == "2" and is_equal else [])]
        for name in shown + (["equal"] if is_equal else []):
            members.setdefault(name, []).append(found)
    return {name: [record for found in of for record in _layers(found)] for name, of in members.items()}


def _layers(found: Found) -> list[dict[str, Any]]:
    """Return one record per layer, for the charts."""
    records = []
    both = zip(found.over(found.cosine), found.errors, strict=True)
    for depth, (cosine, error) in enumerate(both, 1):
        about = {
            "condition": found.name,
            "curve": found.about["curve"],
            "f": F[found.about["contrast"]],
            "population": f"V{depth}",
        }
        # Exactly 0 has no place on a logarithmic axis.
        records.append(put({**about, "largest relative error": error or None}, "cosine", cosine))
    return records


def _bounds(everything: Sequence[Found]) -> list[str]:
    """Say where the updates are to be equal whether they are."""
    sentences = []
    for found in everything:
        bound, error = found.about["bound"], found.largest_error
        if bound is not None:
            verdict = (
                f"below the bound of {bound:g}: it holds"
                if error < bound
                else f"ABOVE the bound of {bound:g}: it does NOT hold"
            )
            where = f"any of {found.cosine.shape[2]} layers and {found.cosine.shape[0] * found.cosine.shape[1]} batches"
            sentences.append(f"{_capital(found.name)}: the relative error is at most {error:.1e} at {where}, {verdict}.")
    return sentences


def _losses(everything: Sequence[Found]) -> list[str]:
    """Say how much of the cosine is lost below the top with each broken condition."""
    sentences = []
    for found in everything:
        if found.about["figure"] in ("2", "further") and found.about["bound"] is None:
            below = found.over(found.cosine)[:-1]
            shown = ", ".join(_text(value, 3) for value in below)
            lost = ", ".join(f"{1 - value.mean:.3f}" for value in below)
            away = (
                " The updates point away from backprop's at every layer below the top."
                if all(value.mean + value.half_width < 0 for value in below)
                else ""
            )
            sentences.append(
                f"{_capital(found.name)}: at layers 1 to {len(below)} the cosine is {shown}: {lost} are lost.{away}"
            )
    return sentences


def _rivals(conditions: Mapping[str, Found]) -> list[str]:
    """Say which of two ways to predict is closer to backprop, in direction and in size, on the same batches."""
    pairs = (
        ("fig3a/{}-feedback", "fig3a/{}-lateral", "direct feedback", "lateral context"),
        ("fig4b/{}-spatial", "fig4b/{}-global", "scores per place", "global pooling"),
        (
            "fig4b/{}-spatial-feedback",
            "fig4b/{}-spatial",
            "direct feedback to every place",
            "lateral context at every place",
        ),
    )
    sentences = []
    for one, other, better, worse in pairs:
        for contrast in ("linear", "softplus"):
            if not {one.format(contrast), other.format(contrast)} <= set(conditions):
                continue
            first, second = _of_both(conditions[one.format(contrast)], conditions[other.format(contrast)])
            if not first.seeds:
                continue
            gains = first.over(first.cosine - second.cosine)[:-1]
            outcomes = [f"{_verdict(gain)} at layer {depth}" for depth, gain in enumerate(gains, 1)]
            where = "decreasing widths" if first.about["figure"] == "3a" else "convolutions"
            nearer = (first.error < second.error)[..., :-1]
            sentences.append(
                f"{_capital(better)} instead of {worse} ({where}, {F[contrast]}): {'; '.join(outcomes)}; the distance to "
                f"backprop's update is smaller in {nearer.sum()} of {nearer.size} comparisons."
            )
    return sentences


def _of_both(one: Found, other: Found) -> tuple[Found, Found]:
    """Return what was found for the seeds that both conditions have, in the same order."""
    both = [seed for seed in one.seeds if seed in other.seeds]

    def of(found: Found) -> Found:
        rows = [found.seeds.index(seed) for seed in both]
        return replace(found, seeds=tuple(both), cosine=found.cosine[rows], error=found.error[rows])

    return of(one), of(other)


def _verdict(gain: Estimate) -> str:
    if not gain.has_interval:
        return f"{gain.mean:+.3f} ({NO_INTERVAL})"
    if not gain.excludes_zero:
        return f"no difference shown ({_text(gain, 3)})"
    return f"{'closer' if gain.mean > 0 else 'FARTHER'} by {_text(gain._replace(mean=abs(gain.mean)), 3)}"


def _text(value: Estimate, digits: int) -> str:
    return f"{value.mean:.{digits}f}" + ("" if np.isnan(value.half_width) else f"±{value.half_width:.{digits}f}")


def _left_out(everything: Sequence[Found]) -> list[str]:
    return [
        f"{_capital(f.name)}: {f.untrusted} comparisons mean nothing and are left out." for f in everything if f.untrusted
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _charts(several_seeds: bool) -> list[Chart]:
    """Return the figures of the paper, and the size of the error."""
    bars = f"bars: 95 % interval of the mean over {'seeds' if several_seeds else 'batches'} (Student's t)"
    shared: dict[str, Any] = {"x": "population", "x_label": "population (layer)", "errors": bars}
    cosine = {**shared, "y": "cosine", "y_label": "cosine of local and backprop-derived update"}
    error = {**shared, "y": "largest relative error", "log": "y"}
    error["y_label"] = "largest |local update - backprop| / |backprop|"
    whole: dict[str, Any] = {"y_range": (-0.2, 1.05), "levels": {"no alignment": 0.0}}
    return [
        Chart(
            "Figure 2: conditions met and broken",
            **{**cosine, **whole, "series": "curve", "data": "figure 2"},
            text="Dense populations of one size, softplus f, lateral context; B at its optimum for every batch.",
        ),
        Chart(
            "Further conditions of the theorem, broken one at a time",
            **{**cosine, **whole, "series": "curve", "data": "figure further"},
            text="Not in the paper; otherwise as in figure 2.",
        ),
        Chart(
            "Figure 3a: decreasing widths",
            **{**cosine, **whole, "series": "curve", "panel": "f", "data": "figure 3a"},
            text="Every population has half the neurons of the one below; context of the population itself or of the top.",
        ),
        Chart(
            "Figure 4b: convolutions",
            **{**cosine, "y_range": (0.4, 1.05), "series": "curve", "panel": "f", "data": "figure 4b"},
            text="Four convolutions of 2x2 patches. Scores of whole maps, or (spatial) of 4x4 cells of the first map and of "
            "every location of the maps above.",
        ),
        Chart(
            "Relative error where theory says that there is none",
            **{**error, "series": "condition", "data": "equal"},
            text="Transported: B = Q^T B_top Q, or Q^T B_top with direct feedback, in networks of any weights, of "
            "decreasing widths or of convolutions (maps). An error of exactly 0, as at the top, is not drawn.",
        ),
        Chart(
            "Relative error with the conditions of figure 2",
            **{**error, "series": "curve", "data": "figure 2"},
            text="The size of the update is lost, too: the error can be many times the update of the reference.",
        ),
    ]
