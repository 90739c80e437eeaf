"""What a stored run is, and whether it is whole: ``neurossl info`` and ``verify``."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from analysis.contents import outline_segment
from analysis.exported import verify_exported
from analysis.exporter import size_in_words
from analysis.index import find_damage, read_index
from analysis.results import RESULTS, read_results
from analysis.schema import LABELS, TENSOR_KINDS
from analysis.storage import CHECKPOINTS, COMPARISON, read_manifest, runs_of
from analysis.trajectory import manifest, open_trajectory
from analysis.words import interventions_in_words, synapses_in_words
from neurossl.checkpoint_files import faults
from neurossl.errors import TrajectoryError
from neurossl.files import absolute
from neurossl.text import one_line, printable

_LONGEST = 300
"""Characters of a line about the configuration."""


class Verified(NamedTuple):
    """What was re-read and found whole, and what is to be said about it nevertheless."""

    runs: int
    segments: int
    bytes: int
    notes: tuple[str, ...] = ()
    file: Path | None = None

    def __str__(self) -> str:
        if self.file is not None:
            return printable(f"{self.file}, an exported file of {self.bytes:,} bytes: its checksum matches")
        if not self.runs:
            return printable("\n".join([*self.notes, "no runs are stored"]))
        runs = f"{self.runs} runs, " if self.runs != 1 else ""
        found = f"{runs}{self.segments} segments, {self.bytes:,} bytes"
        return printable(
            "\n".join([*self.notes, f"{found}: " + ("every checksum matches" if self.bytes else "nothing is stored")])
        )


def verify(run: str | os.PathLike[str]) -> Verified:
    """Re-read every stored byte of a run, of all runs of a comparison, or of an exported file against its checksum.

    Raises
    ------
    TrajectoryError
        Naming each file that is missing, damaged or not what the index says; or an exported file without a checksum.
    """
    path = absolute(run)
    if path.is_file():
        if not verify_exported(path):
            raise TrajectoryError(f"{path} carries no checksum: verify the run folder that it was exported from")
        return Verified(0, 0, path.stat().st_size, file=path)
    notes: tuple[str, ...] = ()
    if (path / RESULTS).exists():
        read_results(path)
        notes = (f"{path / RESULTS} is whole",)
    counts = [_verify(each) for each in runs_below(path)]
    notes += tuple(note for _, _, found in counts for note in found)
    return Verified(len(counts), sum(segments for segments, _, _ in counts), sum(size for _, size, _ in counts), notes)


def describe(run: str | os.PathLike[str]) -> str:
    """Say in words what is in a run folder, an exported file, or the folder of a comparison.

    Raises
    ------
    TrajectoryError
        If it is none of these, or damaged.
    """
    path = absolute(run)
    if (path / COMPARISON).is_file():
        lines = [f"{path}: a comparison of {len(runs_below(path))} runs", *(_headline(each) for each in runs_below(path))]
        return printable("\n".join(lines))
    with open_trajectory(path) as tree:
        about = manifest(path)
        lines = [f"{path}: {_state(about)}", *_configuration(about), *_learned(tree, about), *_stored(about)]
        lines += _interventions(about)
        lines += [*_network(about), "  recorded", *(_contents(tree) or ["    nothing yet"]), *_checkpoints(path)]
    return printable("\n".join(lines))


def _verify(run: Path) -> tuple[int, int, list[str]]:
    about = read_manifest(run)
    segments = read_index(run, about)
    if damage := find_damage(run, segments):
        raise TrajectoryError(f"{run} is damaged in {len(damage)} of {len(segments)} segments: {'; '.join(damage)}")
    for segment in segments:
        outline_segment(run, segment)
    open_trajectory(run)
    notes = [f"{run} has not ended: {_state(about)}"] if about["state"] in ("running", "died") else []
    notes += [f"{run} holds nothing: no segment was ever stored"] if not segments else []
    if (run / CHECKPOINTS).is_dir():
        if broken := faults(run / CHECKPOINTS):
            raise TrajectoryError(f"{run / CHECKPOINTS} is damaged: {'; '.join(broken)}")
        notes += [f"{run / CHECKPOINTS}: every checksum matches"]
    return len(segments), sum(segment.bytes for segment in segments), notes


def runs_below(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the runs of a comparison, or the run itself."""
    path = absolute(folder)
    index = path / COMPARISON
    return runs_of(index)[0] if index.is_file() else [path]


def _headline(run: Path) -> str:
    about = read_manifest(run)
    return f"  {run}: {_state(about)}, rule {about.get('rule', 'unknown')}, seed {about.get('seed', 'unknown')}"


def _state(about: dict[str, Any]) -> str:
    state = f"{about['state']} run" + (f" of {about['protocol']}" if about.get("protocol") else "")
    if about["state"] == "running" and "process" in about:
        process = about["process"]
        state += f" ({process['pid']} on {process['host']}, last sign of life {about.get('last_sign_of_life', 'unknown')})"
    return one_line(f"{state} ({about['reason']})" if about.get("reason") else state)


def _configuration(about: dict[str, Any]) -> list[str]:
    keys = ("rule", "objective", "transport", "needs", "reference", "seed", "seeds", "dataset", "images", "views", "stream")
    lines = []
    for key in (*keys, "synapses", "device", "dtype", "started"):
        value = synapses_in_words(about.get(key)) if key == "synapses" else about.get(key)
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        if text not in (None, ""):
            lines.append(f"  {key:<11}{shorten(one_line(text), _LONGEST, placeholder=' ...')}")
    return lines


def _stored(about: dict[str, Any]) -> list[str]:
    """Say how much is stored, and of a run that has not finished how much it was to be."""
    expected = about.get("expected_bytes")
    of = f" of about {expected / 1e6:.1f} MB" if expected and about["state"] != "finished" else ""
    return [f"  stored     {about['stored_bytes'] / 1e6:.1f} MB{of}"] if "stored_bytes" in about else []


def _interventions(about: dict[str, Any]) -> list[str]:
    lines = interventions_in_words(about.get("interventions"))
    return ["  interventions", *(f"    {line}" for line in lines)] if lines else []


def _learned(tree: xr.DataTree, about: dict[str, Any]) -> list[str]:
    """Say how far the learning has come: the last moment of anything recorded."""
    parts = [(tree.to_dataset(), "event"), *((leaf.to_dataset(), "snapshot") for leaf in tree.leaves)]
    last = [
        tuple(part[name].values[-1] for name in (axis, "time", "observers_seen"))
        for part, axis in parts
        if part.sizes.get(axis)
    ]
    if not last:
        return []
    event, time, observers = max(last)
    wall = f", learned in {about['seconds']:.1f} s" if about.get("seconds") is not None else ""
    return [f"  learning   up to event {event}, {time:g} s of biological time, {observers:,} observers{wall}"]


def _network(about: dict[str, Any]) -> list[str]:
    network = about.get("network")
    if not network:
        return []
    populations, pathways = network.get("populations", []), network.get("pathways", [])
    synapses = sum(pathway.get("synapses", 0) for pathway in pathways)
    lines = [f"  network    {len(populations)} populations, {len(pathways)} pathways, {synapses:,} synapses"]
    for population in populations:
        words = [_shape(population["shape"]), population.get("transfer")] if "shape" in population else []
        lines.append(f"    {one_line(population['name']):<22}" + ", ".join(str(word) for word in words if word))
    for pathway in pathways:
        words = [pathway.get("kind"), _shape(pathway["shape"]) if "shape" in pathway else None]
        words.append("plastic" if pathway.get("plastic") else "fixed")
        lines.append(f"    {one_line(pathway['name']):<22}" + ", ".join(word for word in words if word))
    return lines


def _contents(tree: xr.DataTree) -> list[str]:
    lines = []
    own = [kind for kind in tree.children if kind not in (*TENSOR_KINDS, *LABELS)]
    for kind in (*TENSOR_KINDS, *LABELS, *own):
        node = tree.children.get(kind)
        if node is None:
            continue
        if kind in LABELS:
            data = node.to_dataset()
            label = LABELS[kind]
            numbers = [variable for variable in data.data_vars.values() if variable.dtype.kind == "f"]
            count = max((int(variable.notnull().any(label).sum()) for variable in numbers), default=0)
            names = ", ".join(map(str, data[label].values))
            lines.append(f"    {kind} of {names}: {', '.join(map(str, data.data_vars))} at {count} events")
            continue
        for safe, child in node.children.items():
            data = child.to_dataset(inherit=False)
            name = data.attrs.get("pathway", data.attrs.get("name", safe))
            variables = ", ".join(_tensor(str(key), variable) for key, variable in data.data_vars.items())
            count = data.sizes.get("snapshot", 0)
            lines.append(f"    {kind} of {name}: {count} snapshots of {variables}; {size_in_words(data.nbytes)}")
            if kind in own:
                lines += [f"      {key}: {_meaning(variable)}" for key, variable in data.data_vars.items()]
    return lines


def _tensor(name: str, variable: xr.DataArray) -> str:
    return " ".join(word for word in (name, _shape(variable.shape[1:]), str(variable.dtype)) if word)


def _meaning(variable: xr.DataArray) -> str:
    axes = f" ({', '.join(map(str, variable.dims[1:]))})" if variable.ndim > 1 else ""
    return f"{variable.attrs.get('long_name', variable.name)}{axes}, in {variable.attrs.get('units', '1')}"


def _checkpoints(run: Path) -> list[str]:
    folder = run / CHECKPOINTS
    if not folder.is_dir():
        return []
    return [f"  checkpoints {', '.join(sorted(each.name for each in folder.iterdir())) or 'none'}"]


def _shape(shape: Any) -> str:
    return " x ".join(map(str, np.atleast_1d(shape))) if np.size(shape) else ""
