"""What is declared before it is recorded, and the check of every value against it, in the thread that records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.schema import LABELS, RESERVED, TENSOR_KINDS, VARIABLES, group_of, variable_attributes
from neurossl.errors import OptionError, TrajectoryError
from neurossl.store import Coords, Variable
from neurossl.text import is_plain, one_line, printable

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Series:
    """What is recorded under one name: a pathway's weights, a population's activity, scores of one's own.

    Parameters
    ----------
    kind, name : str
        One of the kinds of the schema or a new one; a pathway, population or whatever else, as the user named it.
    variables : mapping of str to Variable
    coords : mapping of name to (dimensions, array)
        What lies along the axes and never changes, such as which synapses were chosen.
    attrs : mapping
        Further attributes of the group.
    sizes : dict
        Length of each axis, as far as it is known.
    dtypes : dict
        Number type of each tensor, as far as it is known.
    """

    kind: str
    name: str
    variables: Mapping[str, Variable]
    coords: Mapping[str, tuple[tuple[str, ...], np.ndarray]]
    attrs: Mapping[str, Any]
    sizes: dict[str, int] = field(default_factory=dict)
    dtypes: dict[str, np.dtype] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """Where it is stored, unless it is a column of a table."""
        return f"{self.kind}/{group_of(self.name)}"

    def group_attributes(self) -> dict[str, Any]:
        """Return the attributes of the group, the original name among them."""
        original = {"pathway": self.name} if self.kind in TENSOR_KINDS else {"name": self.name}
        return {**original, **self.attrs}

    def attributes_of(self, variable: str) -> dict[str, str]:
        """Return the attributes with which a variable is stored."""
        if self.kind in VARIABLES:
            return variable_attributes(self.kind, variable)
        declared = self.variables[variable]
        return {"units": declared.units, "long_name": declared.description or variable}

    def with_variables(self, other: Series) -> Series:
        """Return the same column of a table with the variables of another recorder too."""
        return replace(self, variables={**self.variables, **other.variables})

    def checked(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return a copy of values as they will be stored.

        Raises
        ------
        TrajectoryError
            If they are not as declared, or not shaped as before; nothing is remembered of them.
        """
        if self.kind in LABELS:
            return {name: self._number(name, value, where) for name, value in values.items()}
        ready = {name: self._array(name, value, where) for name, value in values.items()}
        if len(ready) != len(self.variables):
            raise TrajectoryError(f"{where}: expected {', '.join(self.variables)}, got {', '.join(ready) or 'nothing'}")
        self.sizes.update(self._sizes_of(ready, where))
        self.dtypes.update({name: array.dtype for name, array in ready.items()})
        return ready

    def _declared(self, variable: str, where: str) -> Variable:
        if variable not in self.variables:
            raise TrajectoryError(f"{where}: {variable!r} was never declared, only {', '.join(self.variables)}")
        return self.variables[variable]

    def _number(self, variable: str, value: Any, where: str) -> float:
        self._declared(variable, where)
        array = _host_array(value, f"{where}: {variable}")
        if array.ndim or array.dtype.kind not in "biuf":
            raise TrajectoryError(f"{where}: {variable} is {_words(array)}, expected one number")
        return float(array)

    def _array(self, variable: str, value: Any, where: str) -> np.ndarray:
        declared = self._declared(variable, where)
        array = _host_array(value, f"{where}: {variable}")
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise TrajectoryError(f"{where}: {variable} is {_words(array)}, expected real numbers of at most 64 bits")
        if self.kind in VARIABLES:
            dtype = np.dtype(np.float32) if array.dtype == np.float16 else array.dtype  # NetCDF has no half precision
            known = self.dtypes.get(variable, dtype)
            if dtype != known:
                raise TrajectoryError(f"{where}: {variable} is {dtype}, expected {known} as before")
        else:
            dtype = np.dtype(declared.dtype)
            if not np.can_cast(array.dtype, dtype, "same_kind"):
                raise TrajectoryError(f"{where}: {variable} is {array.dtype}, expected {dtype} as declared")
        if array.ndim != len(declared.dims):
            axes = ", ".join(declared.dims)
            raise TrajectoryError(f"{where}: {variable} has shape {array.shape}, expected the axes ({axes})")
        if not array.size:
            raise TrajectoryError(f"{where}: {variable} has shape {array.shape}: there is nothing to store")
        return np.array(array, dtype, copy=True, order="C")

    def _sizes_of(self, arrays: Mapping[str, np.ndarray], where: str) -> dict[str, int]:
        sizes = dict(self.sizes)
        for name, array in arrays.items():
            for dim, size in zip(self.variables[name].dims, array.shape, strict=True):
                if sizes.setdefault(dim, size) != size:
                    raise TrajectoryError(f"{where}: {name} has {size} along {dim!r}, expected {sizes[dim]}")
        return sizes


def declared_series(
    kind: str,
    name: str,
    variables: Mapping[str, Variable],
    coords: Coords,
    attrs: Mapping[str, Any],
) -> Series:
    """Return what was declared, or refuse it.

    Raises
    ------
    OptionError
        If a name, number type, unit, coordinate or attribute cannot be stored, or the schema lays the kind out otherwise.
    """
    where = f"{one_line(kind)} of {one_line(name)!r}"
    if kind not in VARIABLES and (not _WORD.fullmatch(kind) or kind in RESERVED or len(kind) > 60):
        raise OptionError(f"kind {one_line(repr(kind))} of {one_line(name)!r}: expected a word of letters, digits and _")
    if not isinstance(name, str) or not is_plain(name):
        raise OptionError(f"{where}: expected a name without control characters")
    if not variables:
        raise OptionError(f"{where}: expected at least one variable")
    for variable, declared in variables.items():
        _check_variable(kind, variable, declared, where)
    kept = {name: _checked_coordinate(name, *given, variables, where) for name, given in coords.items()}
    for attribute, value in attrs.items():
        is_number = np.asarray(value).dtype.kind in "iuf" and np.ndim(value) <= 1
        if (
            not _WORD.fullmatch(attribute)
            or attribute in (*RESERVED, "pathway")
            or not (isinstance(value, str) or is_number)
        ):
            raise OptionError(f"{where}: attribute {attribute!r} cannot be {value!r}: expected text or numbers")
    sizes: dict[str, int] = {}
    for key, (dims, values) in kept.items():
        for dim, size in zip(dims, values.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise OptionError(f"{where}: coordinate {key!r} has {size} values along {dim!r}, others {sizes[dim]}")
    text = {key: printable(value) if isinstance(value, str) else value for key, value in attrs.items()}
    return Series(kind, name, {k: Variable(tuple(v.dims), *v[1:]) for k, v in variables.items()}, kept, text, sizes)


def _checked_coordinate(
    name: str, dims: str | tuple[str, ...], values: Any, variables: Mapping[str, Variable], where: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the axes and a copy of the values of a coordinate: a list of numbers or text, or numbers along several axes."""
    axes, array = (dims,) if isinstance(dims, str) else tuple(dims), np.array(values, copy=True)
    is_text = array.dtype.kind in "UT"
    if array.ndim != len(axes) or array.dtype.kind not in "biufUT" or not array.size or (is_text and array.ndim > 1):
        expected = f"a list along {axes[0]!r}" if len(axes) == 1 else f"numbers along {axes!r}"
        raise OptionError(f"{where}: coordinate {name!r} is {_words(array)}, expected {expected}")
    if not _WORD.fullmatch(name) or name in (*RESERVED, *variables) or not all(map(_WORD.fullmatch, axes)):
        raise OptionError(f"{where}: a coordinate cannot be called {name!r}")
    return axes, array


def _check_variable(kind: str, variable: str, declared: Variable, where: str) -> None:
    if kind in VARIABLES and variable not in VARIABLES[kind]:
        known = ", ".join(VARIABLES[kind])
        raise OptionError(f"unknown variable {one_line(repr(variable))} of {where}: expected one of {known}")
    if not isinstance(declared, Variable):
        raise OptionError(f"{where}: {variable!r} is declared as {declared!r}, expected Variable(dims, units, description)")
    dims = declared.dims
    if not _WORD.fullmatch(variable) or variable in RESERVED:
        raise OptionError(f"{where}: a variable cannot be called {one_line(repr(variable))}: expected a word")
    if isinstance(dims, str) or not all(isinstance(d, str) and _WORD.fullmatch(d) and d not in RESERVED for d in dims):
        raise OptionError(f"{where}: {variable} has dims {dims!r}, expected a tuple of words such as ('post', 'pre')")
    if len(set(dims)) != len(dims):
        raise OptionError(f"{where}: {variable} has dims {dims!r}: each can be there once")
    if kind in LABELS and dims:
        raise OptionError(f"{where}: {variable} is one number per moment, got dims {dims!r}")
    if not all(isinstance(text, str) and (not text or is_plain(text)) for text in declared[1:3]):
        raise OptionError(f"{where}: units and description of {variable} are text on one line")
    try:
        dtype = np.dtype(declared.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.itemsize < (4 if dtype.kind == "f" else 1):
        raise OptionError(f"{where}: {variable} has dtype {declared.dtype!r}, expected float32, float64, bool or integers")


def _host_array(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TrajectoryError(f"{what} is no array on the host ({one_line(error)})") from None


def _words(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}" if array.ndim else f"{array.dtype} {one_line(array)[:40]}"
