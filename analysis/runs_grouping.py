"""Where each of many runs stands: along rule, seed, or any member of the manifest, and what varies along which of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from analysis.differences import About, differences, member, signature, told_apart, varying
from analysis.runs_found import StoredRun
from analysis.runs_lazy import Place
from neurossl.errors import OptionError, TrajectoryError
from neurossl.text import one_line

_TAKEN = ("event", "snapshot", "time", "observers_seen", "pathway", "population", "post", "pre", "synapse", "stimulus")
NO_SEED = -1
"""Stands for the seed of a run that says none."""
_ALWAYS = (
    *("label", "objective", "transport", "needs"),
    *("reference", "reference_objective", "reference_at", "own_reference", "own_reference_objective"),
)
"""Members that are coordinates whether they vary or not."""


@dataclass(frozen=True)
class Grouping:
    """Runs by the dimensions along which they lie.

    Attributes
    ----------
    dims : tuple of str
        Such as rule and seed.
    labels : tuple of array
        Along each of them.
    runs : dict of tuple of int to StoredRun
        By where they stand.
    """

    dims: tuple[str, ...]
    labels: tuple[np.ndarray, ...]
    runs: Mapping[Place, StoredRun]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""
        return tuple(labels.size for labels in self.labels)

    def coordinates(self) -> dict[str, xr.Variable]:
        """Return the labels of every dimension."""
        told = {"seed": f"seed of the random numbers ({NO_SEED}: none is stored)", "rule": "plasticity rule"}
        return {
            dim: xr.Variable(dim, labels, {"units": "1", "long_name": told.get(dim, f"{dim} of the manifest")})
            for dim, labels in zip(self.dims, self.labels, strict=True)
        }

    def members(self, by: Sequence[str]) -> dict[str, xr.Variable]:
        """Return what else of the manifests is a coordinate: what varies, along the dimensions along which it does."""
        places, abouts = list(self.runs), [run.about for run in self.runs.values()]
        found: dict[str, list[Any]] = {name: [_told(name, about) for about in abouts] for name in _ALWAYS}
        if "rule" not in by:
            found["rule"] = [one_line(about.get("rule") or "") for about in abouts]
        found |= {k: v for k, v in varying(abouts, by).items() if k not in found and k not in ("rule", "label")}
        names: dict[str, str] = {}
        for long in sorted(found, key=lambda name: name.count(".")):
            short = long.rpartition(".")[2]
            is_free = short not in names.values() and short not in self.dims and short not in _TAKEN
            names[long] = short if is_free else long
        variables = {}
        for long, values in found.items():
            attributes = {"units": "1", "long_name": f"{long.replace('_', ' ')} (manifest)"}
            told = dict(zip(places, values, strict=True))
            variables[names[long]] = along(self.dims, self.shape, told, attributes, ["rule"] if long in _ALWAYS else [])
        return variables


def along(
    dims: Sequence[str],
    shape: Sequence[int],
    values: Mapping[Place, Any],
    attributes: Mapping[str, Any],
    keep: Sequence[str] = (),
) -> xr.Variable:
    """Return one value per run as a variable along the dimensions along which it varies, and along those to keep.

    Where no run is, or a run has no value, there is NaN for numbers and "" for text.
    """
    kinds = [value for value in values.values() if value is not None]
    numeric = all(isinstance(value, bool | int | float) for value in kinds)
    whole = np.full(shape, np.nan if numeric else "", dtype=float if numeric else object)
    there = np.zeros(shape, bool)
    for place, value in values.items():
        there[place] = True
        if value is not None:
            whole[place] = value if numeric else one_line(value)
    kept = list(dims)
    for axis in reversed(range(len(dims))):
        if dims[axis] not in keep and (same := constant_along(whole, there, axis)) is not None:
            whole, there = same, np.asarray(there.any(axis))
            del kept[axis]
    if not numeric:
        return xr.Variable(kept, whole.astype(str), dict(attributes))
    if there.all() and kinds and not any(isinstance(value, float) for value in kinds) and len(kinds) == len(values):
        whole = whole.astype(bool if all(isinstance(value, bool) for value in kinds) else np.int64)
    return xr.Variable(kept, whole, dict(attributes))


def constant_along(whole: np.ndarray, there: np.ndarray, axis: int, tolerance: float = 0.0) -> np.ndarray | None:
    """Return values without an axis along which they are the same wherever they are there; None if they are not.

    Numbers are the same if they differ by no more than ``tolerance``, relative to them.
    """
    first = np.take_along_axis(whole, np.expand_dims(there.argmax(axis), axis), axis)
    same = whole == first
    if whole.dtype.kind == "f":
        same |= np.isclose(whole, first, rtol=tolerance, atol=0, equal_nan=True)
    return np.squeeze(first, axis) if bool((same | ~there).all()) else None


def group_runs(runs: Sequence[StoredRun], by: Sequence[str]) -> Grouping:
    """Return where each run stands.

    Parameters
    ----------
    runs : sequence of StoredRun
    by : sequence of str
        Members of the manifest, dotted where they lie deeper; each is a dimension called as its last part.

    Raises
    ------
    OptionError
        If ``by`` names the same dimension twice, or what no run has.
    TrajectoryError
        If two runs stand at the same place, or runs that differ in anything else than ``by`` cannot be told apart.
    """
    dims = _dimensions(by)
    columns = []
    for name in by:
        values = _rules(runs, by) if name == "rule" else _values(runs, name)
        columns.append(values)
    labels = tuple(_labels(values, sort=name != "rule") for name, values in zip(by, columns, strict=True))
    placed: dict[Place, StoredRun] = {}
    for number, run in enumerate(runs):
        place = tuple(_position(kept, values[number]) for kept, values in zip(labels, columns, strict=True))
        if place in placed:
            raise TrajectoryError(_collision(placed[place], run, by))
        placed[place] = run
    if "rule" not in by:
        _require_alike(runs, by)
    return Grouping(dims, labels, placed)


def seed_of(run: StoredRun) -> int:
    """Return the label of a run along seed."""
    seed = run.about.get("seed")
    return NO_SEED if seed is None else int(seed)


def _dimensions(by: Sequence[str]) -> tuple[str, ...]:
    if isinstance(by, str) or not all(isinstance(name, str) and name for name in by) or not by:
        raise OptionError(f"by is {by!r}: expected names of members of the manifest, as ('rule', 'synapses.lr', 'seed')")
    dims = tuple(name.rpartition(".")[2] for name in by)
    for name, dim in zip(by, dims, strict=True):
        if dims.count(dim) > 1:
            raise OptionError(f"by names the dimension {dim!r} twice: name each once")
        if dim in _TAKEN:
            raise OptionError(f"by names {name!r}: {dim!r} is an axis of what was recorded, expected another member")
    return dims


def _values(runs: Sequence[StoredRun], name: str) -> list[Any]:
    """Return a member of every run as a label: a number or text."""
    found = [member(run.about, name) for run in runs]
    if name == "seed":
        return list(map(seed_of, runs))
    if name == "label":
        return [run.label for run in runs]
    if all(value is None for value in found):
        abouts = [run.about for run in runs]
        known = ", ".join(dict.fromkeys(["rule", "seed", *varying(abouts)]))
        raise OptionError(f"by names {name!r}, of which no run says anything: those that vary are {known}")
    if all(isinstance(value, int | float) for value in found if value is not None):
        return [np.nan if value is None else value for value in found]
    return ["none" if v is None else one_line(v if isinstance(v, str) else json.dumps(v)) for v in found]


def _labels(values: Iterable[Any], sort: bool) -> np.ndarray:
    unique = list(dict.fromkeys("nan" if _is_nan(value) else value for value in values))
    unique = [np.nan if value == "nan" else value for value in unique]
    if sort and not any(isinstance(value, str) for value in unique):
        unique = sorted(unique, key=lambda value: (_is_nan(value), value))
    return np.array(unique)


def _position(labels: np.ndarray, value: Any) -> int:
    return int(np.flatnonzero(np.isnan(labels) if _is_nan(value) else labels == value)[0])


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and np.isnan(value)


def _rules(runs: Sequence[StoredRun], by: Sequence[str]) -> list[str]:
    """Return the name of every run's rule: of the rule where that says it all, else the label, else with what differs."""
    without = set(by) - {"rule"}
    experiments = _experiments(runs, without)
    first = [runs[members[0]] for members in experiments]
    names = [run.rule for run in first]
    for better in (lambda run: run.label, None):
        for name in [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            same = [number for number, other in enumerate(names) if other == name]
            if better is not None:
                told = [better(first[number]) for number in same]
                if len(set(told)) < len(told) and len(set(told)) == 1:
                    continue
                found = told
            else:
                abouts = [first[number].about for number in same]
                words = told_apart(abouts, {*without, "rule", "label"})
                if words is None:
                    one, other = first[same[0]], first[same[1]]
                    raise TrajectoryError(_untold(one, other, without))
                found = [f"{name} [{word}]" for word in words]
            for number, text in zip(same, found, strict=True):
                names[number] = text
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        one, other = (first[number] for number, name in enumerate(names) if name == twice)
        raise TrajectoryError(_untold(one, other, without))
    by_run = {number: name for name, members in zip(names, experiments, strict=True) for number in members}
    return [by_run[number] for number in range(len(runs))]


def _experiments(runs: Sequence[StoredRun], without: set[str]) -> list[list[int]]:
    """Return the numbers of runs that differ in nothing but their seed and ``without``, together."""
    found: list[list[int]] = []
    by_signature: dict[str, list[list[int]]] = {}
    for number, run in enumerate(runs):
        alike = by_signature.setdefault(signature(run.about, without), [])
        for members in alike:
            if next(differences(runs[members[0]].about, run.about, without), None) is None:
                members.append(number)
                break
        else:
            alike.append([number])
            found.append(alike[-1])
    return found


def _require_alike(runs: Sequence[StoredRun], by: Sequence[str]) -> None:
    """Make sure that runs differ in nothing but ``by``, where no name of a rule can tell them apart."""
    for run in runs[1:]:
        difference = next(differences(runs[0].about, run.about, {*by, "label"}), None)
        if difference is not None:
            raise TrajectoryError(
                f"{runs[0].path} and {run.path} differ in {difference}: only runs that differ in {', '.join(by)} alone lie "
                "side by side; name it in by as well, or select runs"
            )


def _untold(one: StoredRun, other: StoredRun, without: set[str]) -> str:
    found = next(differences(one.about, other.about, without), "nothing that can be told")
    return (
        f"{one.path} and {other.path} are the same rule, but differ in {found}: they cannot be told apart in a few words; "
        "give them different labels, or open them apart"
    )


def _collision(one: StoredRun, other: StoredRun, by: Sequence[str]) -> str:
    difference = next(differences(one.about, other.about, by), None)
    where = ", ".join(f"{name} {member(one.about, name)}" for name in by)
    if by[-1:] == ("seed",) or "seed" in by:
        seed = one.about.get("seed")
        said = f"{one.path} and {other.path} are the same rule with the same seed ({seed})"
        return said + (f", but differ in {difference}: name it in by" if difference else ": one says nothing new")
    seeds = (one.about.get("seed"), other.about.get("seed"))
    also = "name 'seed' in by" if seeds[0] != seeds[1] else "one says nothing new"
    return f"{one.path} and {other.path} stand at the same place ({where}), seeds {seeds[0]} and {seeds[1]}: {also}"


def _told(name: str, about: About) -> Any:
    value = about.get(name)
    return (
        ", ".join(map(str, value)) if isinstance(value, list) else value or (about.get("rule") if name == "label" else None)
    )
