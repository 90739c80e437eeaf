"""How similar representations are between populations, rules, seeds or moments, from the tree of one run or of many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from analysis.canonical import cca_measure, pwcca_measure, svcca_measure
from analysis.crossing import Measure, attempted
from analysis.rdm_comparison import SECOND
from analysis.representation_arrays import Undefined, described, in_words, leading, matrix, responses_in
from analysis.rsa import rsa_measure
from analysis.similarities import cka_measure, procrustes_measure
from analysis.stimuli import check_same_stimuli, first_views, images_of, view_means
from neurossl.errors import OptionError, TrajectoryError

MEASURES: dict[str, Callable[..., Measure]] = {
    "cka": cka_measure,
    "procrustes": procrustes_measure,
    "cca": cca_measure,
    "svcca": svcca_measure,
    "pwcca": pwcca_measure,
    "rsa": rsa_measure,
}
"""Name -> function of the options that makes the measure."""
POPULATION = "population"
BLOCK = 2**28
"""Bytes of responses that are held at a time."""


def similarity(
    source: Any,
    between: str | Sequence[str] = POPULATION,
    measure: str | Measure = "cka",
    *,
    populations: Sequence[str] | None = None,
    snapshot: Any = "last",
    views: str = "mean",
    **options: Any,
) -> xr.DataArray:
    """Return the matrix of similarities along a dim, or along several together.

    Parameters
    ----------
    source : DataTree, or mapping of str to DataArray or array
        With ``/responses``, of one run or of many; or the responses of each population.
    between : str or sequence of str
        population, or any dim in front of stimulus and neuron: rule, seed, snapshot. What is not named is carried through:
        between rules, the same seed of both is compared; ``("rule", "seed")`` compares all runs with all.
    measure : str or Measure
        cka (debiased), procrustes, cca, svcca, pwcca or rsa.
    populations : sequence of str, optional
    snapshot : "last", "all", or a label
        Moment that is compared: the last that any run has (a run that has stopped before is NaN), each, or one event. Not
        looked at with ``between="snapshot"``.
    views : "mean" or "each"
        Average the views of one image first, so that rows are independent samples, or take each as a stimulus.
    **options
        Of the measure: ``debiased=False``; ``metric=``, ``comparison=`` of RSA; ``variance=``, ``components=`` of SVCCA.

    Returns
    -------
    DataArray
        (population, ..., between, between_2). NaN where undefined, with the reason in ``attrs["undefined"]``.

    Raises
    ------
    OptionError
        For an unknown measure, dim, population, moment or option.
    TrajectoryError
        If no responses were recorded, or what was shown differs between what is compared.
    """
    found = responses_in(source, populations)
    along = [between] if isinstance(between, str) else list(between)
    chosen = _measure(measure, options)
    if views not in ("mean", "each"):
        raise OptionError(f"views: expected 'mean' or 'each', got {views!r}")
    _check_dims(found, along)
    if "snapshot" not in along:
        found = {name: at_moment(response, snapshot) for name, response in found.items()}
    groups = [found] if POPULATION in along else [{name: response} for name, response in found.items()]
    for group in groups:
        check_same_stimuli(group)
        _check_labels(group)
    results = [_Matrix(group, along, chosen, views == "mean").compute() for group in groups]
    if POPULATION in along:
        return results[0]
    undefined = "; ".join(r.attrs["undefined"] for r in results if "undefined" in r.attrs)
    joined = xr.concat(results, xr.Variable(POPULATION, list(found)), join="outer", combine_attrs="drop_conflicts")
    return joined.assign_attrs({"undefined": undefined} if undefined else {})


class _Matrix:
    """All with all along some dims, for every place along the others."""

    def __init__(self, found: Mapping[str, xr.DataArray], along: list[str], measure: Measure, average: bool) -> None:
        self.found, self.along, self.measure, self.average = found, along, measure, average
        first = next(iter(found.values()))
        self.first = first
        self.dims = [dim for dim in leading(first) if dim not in along]
        labels = {dim: range(first.sizes[dim]) for dim in along if dim != POPULATION}
        self.items: list[dict[str, Any]] = [
            dict(zip(along, at, strict=True))
            for at in product(*(list(found) if d == POPULATION else labels[d] for d in along))
        ]
        self.sizes = [len(found) if dim == POPULATION else first.sizes[dim] for dim in along]
        self.images = images_of(first) if average else None
        self.reasons: dict[str, str] = {}

    def compute(self) -> xr.DataArray:
        """Return the matrix."""
        count = len(self.items)
        outer = [self.first.sizes[dim] for dim in self.dims]
        values = np.full([*outer, count, count], np.nan)
        for at in np.ndindex(*outer):
            self._fill(values[at], dict(zip(self.dims, at, strict=True)))
        # Coordinates of the first population go for all: they have the same dims.
        coords: dict[Any, Any] = {}
        for name, coord in self.first.coords.items():
            if coord.dims and set(coord.dims) <= {*self.dims, *self.along}:
                coords[name] = coord.variable
            if coord.dims and set(coord.dims) <= set(self.along):
                coords[f"{name}{SECOND}"] = ([f"{dim}{SECOND}" for dim in coord.dims], coord.values)
        if POPULATION in self.along:
            coords |= {POPULATION: list(self.found), POPULATION + SECOND: list(self.found)}
        stimuli = len(first_views(self.images)) if self.images is not None else self.first.sizes["stimulus"]
        attrs: dict[str, Any] = {
            "long_name": self.measure.long_name,
            "units": self.measure.units,
            "stimuli_compared": stimuli,
        }
        attrs |= {"stimuli": self.first.attrs["stimuli"]} if isinstance(self.first.attrs.get("stimuli"), str) else {}
        attrs |= {"undefined": in_words(self.reasons)} if self.reasons else {}
        dims = [*self.dims, *self.along, *(dim + SECOND for dim in self.along)]
        return xr.DataArray(values.reshape(*outer, *self.sizes, *self.sizes), coords, dims, "similarity", attrs)

    def _fill(self, square: np.ndarray, place: dict[str, int]) -> None:
        """Fill a matrix block by block, so that what is held stays within `BLOCK`."""
        largest = max(8 * one.sizes["stimulus"] * one.sizes["neuron"] for one in self.found.values())
        step = max(1, BLOCK // (2 * largest))
        starts = range(0, len(self.items), step)
        for i in starts:
            rows = [self._prepared(item, place) for item in self.items[i : i + step]]
            for j in starts[starts.index(i) :]:
                columns = rows if i == j else [self._prepared(item, place) for item in self.items[j : j + step]]
                for a, b in product(range(len(rows)), range(len(columns))):
                    if i + a <= j + b:
                        self._compare(square, i + a, j + b, rows[a], columns[b], place)

    def _prepared(self, item: dict[str, Any], place: dict[str, int]) -> Any:
        response = self.found[item[POPULATION]] if POPULATION in item else self.first
        here = {**place, **{dim: at for dim, at in item.items() if dim != POPULATION}}
        read = attempted(matrix, response, here)
        if not isinstance(read, Undefined):
            values = read[0] if self.images is None else view_means(read[0], self.images)
            read = attempted(self.measure.prepare, values)
        if isinstance(read, Undefined):
            self.reasons[self._where(item, here)] = str(read)
        return read

    def _where(self, item: dict[str, Any], here: dict[str, int]) -> str:
        name = item.get(POPULATION) or next(iter(self.found))
        return ", ".join(filter(None, [f"{POPULATION}={name}", described(self.first, here)]))

    def _compare(self, square: np.ndarray, i: int, j: int, a: Any, b: Any, place: dict[str, int]) -> None:
        if isinstance(a, Undefined) or isinstance(b, Undefined):
            return
        both = [(i, j, a, b)] if self.measure.symmetric or i == j else [(i, j, a, b), (j, i, b, a)]
        for row, column, one, other in both:
            value = attempted(self.measure.compare, one, other)
            if isinstance(value, Undefined):
                where = self._where(
                    self.items[row], {**place, **{d: k for d, k in self.items[row].items() if d != POPULATION}}
                )
                self.reasons[where] = str(value)
                value = np.nan
            square[row, column] = value
            if self.measure.symmetric:
                square[column, row] = value


def _measure(measure: str | Measure, options: Mapping[str, Any]) -> Measure:
    if isinstance(measure, Measure):
        if options:
            raise OptionError(f"{', '.join(options)}: options go with the name of a measure")
        return measure
    if measure not in MEASURES:
        raise OptionError(f"measure: expected one of {', '.join(MEASURES)}, got {measure!r}")
    make = MEASURES[measure]
    names = make.__code__.co_varnames[: make.__code__.co_argcount]
    unknown = [name for name in options if name not in names]
    if unknown:
        raise OptionError(f"{', '.join(unknown)}: no option of {measure}, which has {', '.join(names) or 'none'}")
    return make(**options)


def at_moment(response: xr.DataArray, snapshot: Any) -> xr.DataArray:
    """Return the responses at one moment, without the dim, or at all."""
    if "snapshot" not in response.dims or (isinstance(snapshot, str) and snapshot == "all"):
        return response
    if isinstance(snapshot, str):
        if snapshot != "last":
            raise OptionError(f"snapshot: expected 'last', 'all' or an event, got {snapshot!r}")
        return response.isel(snapshot=-1)
    events = (
        response["snapshot"].values.tolist() if "snapshot" in response.coords else list(range(response.sizes["snapshot"]))
    )
    if snapshot not in events:
        raise OptionError(f"snapshot: expected 'last', 'all' or one of {', '.join(map(str, events))}, got {snapshot!r}")
    return response.isel(snapshot=events.index(snapshot))


def _check_dims(found: Mapping[str, xr.DataArray], along: list[str]) -> None:
    """Refuse dims that are not there."""
    possible = [POPULATION, *leading(next(iter(found.values())))]
    wrong = [dim for dim in along if dim not in possible]
    if wrong or not along or len(set(along)) < len(along):
        raise OptionError(
            f"between: expected some of {', '.join(possible)}, got {', '.join(map(str, along)) or 'none'}"
            + (": open several runs with analysis.open_runs" if {"rule", "seed"} & set(wrong) else "")
        )


def _check_labels(found: Mapping[str, xr.DataArray]) -> None:
    """Refuse populations whose other dims do not match."""
    (name, first), *others = found.items()
    for other, response in others:
        for dim in dict.fromkeys(leading(first) + leading(response)):
            both = dim in first.dims and dim in response.dims and first.sizes[dim] == response.sizes[dim]
            labelled = dim in first.coords and dim in response.coords
            if not both or (labelled and not np.array_equal(first[dim], response[dim])):
                raise TrajectoryError(f"{dim}: differs between {name} and {other}: select the same of both")
