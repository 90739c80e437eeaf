"""What other programs want to know of an exported file: the CF and ACDD conventions.

CF-1.8 (cfconventions.org) has units of everything, the auxiliary coordinates named by every variable, a title and a history;
and whole numbers of at most 32 bits. ACDD-1.3 (wiki.esipfed.org) adds what a catalogue shows. Beside those stands every
member of the manifest: text and numbers as they are, anything richer as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from analysis.storage import now
from neurossl.text import one_line, printable

CONVENTIONS = "CF-1.8, ACDD-1.3"
WAS = "stored_as"
"""Attribute of a coordinate whose whole numbers had 64 bits: CF-1.8 has none such."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TAKEN = ("Conventions", "title", "history", "summary", "source", "id", "date_created", "date_modified", "manifest", "units")


def global_attributes(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of the root of a file that holds the run with this manifest."""
    who = [about.get("protocol"), about.get("label") or about.get("rule"), about.get("dataset")]
    of = ", ".join(one_line(word) for word in who if word) or "a simulation"
    title = f"{of}, seed {about['seed']}" if about.get("seed") is not None else of
    versions = about.get("versions") or {}
    source = f"neurossl {versions.get('neurossl', '')}".strip()
    command = about.get("command") or ""
    words = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    history = [f"{about.get('started') or 'unknown'}: recorded by {source}" + (f": {one_line(words)}" if words else "")]
    history.append(f"{now()}: exported by neurossl export")
    found: dict[str, Any] = {
        "Conventions": CONVENTIONS,
        "title": title,
        "history": "\n".join(history),
        "summary": f"Synaptic weights, their updates and what was measured while a network learned: {title}",
        "source": source,
    }
    for name, member in (("id", "run_id"), ("date_created", "started"), ("date_modified", "ended")):
        if about.get(member):
            found[name] = one_line(about[member])
    for name, value in about.items():
        if _NAME.fullmatch(name) and name not in _TAKEN and value is not None:
            found[name] = _attribute(value)
    return found


def narrowed(variable: xr.Variable) -> xr.Variable:
    """Return a coordinate with numbers that CF-1.8 has and that are the same; where there are none, as it is."""
    if variable.dtype.kind not in "iu" or (variable.dtype.kind == "i" and variable.dtype.itemsize <= 4):
        return variable
    values = variable.values
    largest = int(np.abs(values.astype(object)).max()) if values.size else 0
    if largest >= 2**53:
        return variable
    attributes = {**variable.attrs, WAS: variable.dtype.name}
    return xr.Variable(variable.dims, values.astype(np.int32 if largest < 2**31 else np.float64), attributes)


def widened(variable: xr.Variable) -> xr.Variable:
    """Return a coordinate with the numbers again that it had before `narrowed`."""
    wanted = str(variable.attrs.get(WAS))
    if not re.fullmatch(r"u?int(8|16|32|64)", wanted):
        return variable
    attributes = {key: value for key, value in variable.attrs.items() if key != WAS}
    return xr.Variable(variable.dims, variable.values.astype(wanted), attributes)


def _attribute(value: Any) -> str | int | float:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return json.dumps(value)
    return value if isinstance(value, float) or abs(value) < 2**63 else str(value)
