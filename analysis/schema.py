"""The names, axes, units and meanings of everything a trajectory can hold (schema version 1).

A stored run is a tree: tensors along a ``snapshot`` axis of their own (``/weights/<pathway>``, ``/updates/<pathway>``) and
scalars along the ``event`` axis of the root (``/alignment`` by pathway, ``/activity`` and ``/performance`` by population).
A recorder of one's own adds kinds: ``/<kind>/<name>``, laid out like the tensors, with its own dims, units and descriptions.
So are ``/responses/<population>``, ``response`` (snapshot, stimulus, neuron), and ``/correctness/<population>``, ``probe``
and ``nearest_neighbour`` (snapshot, stimulus); their attribute ``stimuli`` is a digest of what was shown.
Event 0 is the state before the first update; event n is the state after the updates of the n-th learning moment.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from neurossl.measures import UNTRUSTED_BECAUSE
from neurossl.text import printable

SCHEMA_VERSION = 1

UNITS = "time in s, angles in degrees, everything else dimensionless (1)"

#: What the roots of segments and trees say about its run, as far as the manifest knows it.
ROOT_KEYS = (
    *("protocol", "rule", "objective", "transport", "needs", "reference", "reference_objective", "by_construction"),
    *("reference_at", "own_reference", "own_reference_objective"),
    *("seed", "seeds", "dataset", "network"),
)

#: What the root of a tree says besides.
TOLD_KEYS = ("interventions", "fixed_weights", "precision")


class Meaning(NamedTuple):
    """What a stored variable means; it is NaN where nothing was recorded."""

    units: str
    long_name: str
    flags: Mapping[int, str] = MappingProxyType({})


#: Per kind, what may be recorded. A kind of scalars has one value per event and name, a kind of tensors one array.
VARIABLES: dict[str, dict[str, Meaning]] = {
    "weights": {
        "weight": Meaning("1", "synaptic weight"),
        "bias": Meaning("1", "bias of the postsynaptic neuron"),
    },
    "updates": {
        "update": Meaning("1", "weight change proposed by the rule (ascent: it is added)"),
        "reference_update": Meaning("1", "weight change proposed by the backprop reference (ascent: it is added)"),
        "update_bias": Meaning("1", "bias change proposed by the rule (ascent: it is added)"),
        "reference_update_bias": Meaning("1", "bias change proposed by the backprop reference (ascent: it is added)"),
        "change": Meaning("1", "weight change that was applied, after optimiser, bounds and homeostasis"),
    },
    "alignment": {
        "cosine": Meaning("1", "cosine between update and reference update"),
        "angle": Meaning("degree", "angle between update and reference update"),
        "norm_ratio": Meaning("1", "norm of the update over norm of the reference update"),
        "sign_agreement": Meaning("1", "fraction of synapses whose update has the sign of the reference (chance: 0.5)"),
        "relative_error": Meaning("1", "norm of update minus reference over norm of the reference"),
        "loss_decrease": Meaning("1", "relative decrease of the reference objective after a small step along the update"),
        "ceiling": Meaning("1", "cosine of the reference updates on two halves of the observers (noise ceiling)"),
        "self_ceiling": Meaning("1", "cosine of the updates on two halves of the observers"),
        "cross_cosine": Meaning("1", "cosine of the update on one half of the observers with the reference on the other"),
        "shuffled_cosine": Meaning(
            "1", "cosine between the update when other observers are taught and the reference update"
        ),
        "random_cosine": Meaning(
            "1", "cosine between the update by random credit of the same norm and the reference update"
        ),
        "credit_cosine": Meaning("1", "mean over observers of the cosine of the credit dL/dz with that of the reference"),
        "gamma_agreement": Meaning("1", "fraction of observers whose neuromodulator has the sign of that at the top"),
        "active_row_cosine": Meaning("1", "cosine between update and reference over the neurons that both of them change"),
        "reference_decrease": Meaning("1", "relative decrease of the reference objective after a step along the reference"),
        "joint_decrease": Meaning("1", "the same along the updates of all pathways together (equal for all pathways)"),
        "joint_reference_decrease": Meaning("1", "the same along the reference updates of all pathways together"),
        "heldout_decrease": Meaning("1", "relative decrease on other observers after a step along the update"),
        "heldout_reference_decrease": Meaning("1", "relative decrease on other observers after a step along the reference"),
        "heldout_joint_decrease": Meaning("1", "relative decrease on other observers along the updates of all pathways"),
        "heldout_joint_reference_decrease": Meaning("1", "the same along the reference updates of all pathways together"),
        "perturbation_correlation": Meaning(
            "1", "correlation of the change foreseen by the credit with that of the objective"
        ),
        "reference_perturbation_correlation": Meaning("1", "the same of the credit of the reference (calibration: 1)"),
        "reference_norm": Meaning("1", "Euclidean norm of the reference update"),
        "update_norm": Meaning("1", "Euclidean norm of the update"),
        "stability": Meaning("1", "cosine with the update recorded before (high where the reference is low: a drift)"),
        "reference_stability": Meaning("1", "cosine of the reference update with the one recorded before"),
        "trustworthy": Meaning("1", "1 where the comparison means something (norms, activity growth, drift), 0 where not"),
        "untrusted_because": Meaning("1", "why the comparison is not to be trusted", flags=UNTRUSTED_BECAUSE),
        "activity_growth": Meaning("1", "largest ratio of the norms of the activity of successive populations"),
        "change_norm": Meaning("1", "Euclidean norm of the change that was applied"),
        "change_cosine": Meaning("1", "cosine between the change that was applied and the reference update"),
        "change_agreement": Meaning("1", "cosine between the change that was applied and the proposed update"),
    },
    "activity": {
        "mean": Meaning("1", "mean activity of the population"),
        "sparseness": Meaning("1", "sparseness of the activity of the population"),
        "norm": Meaning("1", "Euclidean norm of the activity of the population, mean over observers"),
        "effective_rank": Meaning("1", "effective rank of the activity of the population across observers"),
        "active_fraction": Meaning("1", "fraction of the rows whose neuromodulator is open: that change synapses"),
    },
    "performance": {
        "loss": Meaning("1", "loss of the objective at the population"),
        "probe_accuracy": Meaning("1", "fraction of held-out stimuli that a linear probe of the population names correctly"),
        "validation_accuracy": Meaning(
            "1", "fraction of the stimuli kept for choices that a linear probe of the population names correctly"
        ),
        "followed_accuracy": Meaning(
            "1",
            "fraction of the stimuli kept for choices that a linear probe with one penalty at all times names correctly",
        ),
        "best_epoch_accuracy": Meaning(
            "1", "fraction of held-out stimuli that a linear probe names correctly in the epoch in which these are most"
        ),
        "last_epoch_accuracy": Meaning(
            "1", "fraction of held-out stimuli that such a probe names correctly in its last epoch"
        ),
        "knn_accuracy": Meaning("1", "fraction of held-out stimuli that their nearest neighbours name correctly"),
    },
}

TENSOR_KINDS = ("weights", "updates")

#: The axis along which the names of a kind of scalars lie.
LABELS = {"alignment": "pathway", "activity": "population", "performance": "population"}

COORDINATES: dict[str, Meaning] = {
    "event": Meaning("1", "learning moments completed (0: initial state)"),
    "snapshot": Meaning("1", "learning moments completed when the snapshot was taken (0: initial state)"),
    "time": Meaning("s", "biological time"),
    "observers_seen": Meaning("1", "observers shown so far, summed over learning moments"),
    "synapse": Meaning("1", "index of the synapse in the flattened weight of the pathway"),
    "post": Meaning("1", "index of the postsynaptic neuron, channel or place"),
    "pre": Meaning("1", "index of the presynaptic neuron, channel or place"),
    "presynaptic": Meaning("1", "flat index of the presynaptic neuron"),
    "ky": Meaning("1", "row of the kernel"),
    "kx": Meaning("1", "column of the kernel"),
    "pathway": Meaning("1", "pathway"),
    "population": Meaning("1", "population"),
    "stimulus": Meaning("1", "identifier of the stimulus"),
    "image": Meaning("1", "index of the image that the stimulus is a view of"),
    "label": Meaning("1", "class of the stimulus"),
    "neuron": Meaning("1", "flat index of the neuron in its population"),
    "observer": Meaning("1", "row of the moment"),
    "channel": Meaning("1", "channel of the neuron"),
    "y": Meaning("1", "row of the neuron in its map"),
    "x": Meaning("1", "column of the neuron in its map"),
}


#: What a kind of one's own cannot be called.
RESERVED = ("event", "snapshot", "time", "observers_seen", "coordinates", "name", "kind")


def group_of(name: str) -> str:
    """Return the group in which a pathway, population or name of one's own is stored: ``V1->V2`` is in ``V1_to_V2``.

    Slashes and some other characters mean something else to NetCDF. In a tree that is opened the groups have the names that
    their pathways have, ``tree["weights/V1->V2"]``, and answer to these as well, ``tree["weights/V1_to_V2"]``.

    No two names become the same: one that cannot be read back from its group, as ``α`` or a plain ``V1_to_V2``, gets a mark
    made of the whole name. The way back is the attribute of the group that keeps the original.
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name.replace("->", "_to_").replace("=>", "_back_to_"))
    readable = safe.replace("_back_to_", "=>").replace("_to_", "->") == name and safe[:1] not in ("", ".", "-")
    if readable and len(safe) <= 120:
        return safe
    mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
    return f"{safe.lstrip('.-')[:100]}-{mark}" if safe.lstrip(".-") else f"_-{mark}"


def variable_attributes(kind: str, name: str) -> dict[str, Any]:
    """Return the attributes that the variable ``name`` of ``kind`` is stored with."""
    variable = VARIABLES[kind][name]
    attributes: dict[str, Any] = {"units": variable.units, "long_name": variable.long_name}
    if variable.flags:
        # Of the number type of the variable, as CF asks.
        attributes["flag_values"] = [float(code) for code in variable.flags]
        attributes["flag_meanings"] = " ".join(variable.flags.values())
    if kind == "weights":
        attributes["sampled"] = "after_update"
    return attributes


def coordinate_attributes(name: str) -> dict[str, str]:
    """Return the attributes that the coordinate ``name`` is stored with."""
    variable = COORDINATES.get(name, Meaning("1", name))
    return {"units": variable.units, "long_name": variable.long_name}


def root_attributes(manifest: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the attributes of the root of a segment: numbers and strings as they are, anything richer as JSON."""
    known = {key: manifest[key] for key in ROOT_KEYS if manifest.get(key) is not None}
    return {
        "schema_version": SCHEMA_VERSION,
        **{key: _attribute(value) for key, value in known.items()},
        "units": UNITS,
    }


def tree_attributes(manifest: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the attributes of the root of a tree that is read: those of a segment, the state, and what was done to it."""
    told = {key: _attribute(manifest[key]) for key in TOLD_KEYS if manifest.get(key) is not None}
    return {**root_attributes(manifest), **told, "state": manifest["state"]}


def _attribute(value: Any) -> str | int | float:
    if isinstance(value, str):
        return printable(value)
    return value if isinstance(value, int | float) else json.dumps(value)
