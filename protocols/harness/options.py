"""Command-line options from the signature of a protocol.

A protocol is a module with ``run(out, *, option=default, ...)``. Its keyword parameters become ``--option VALUE``, their
annotations the types, the first sentence of their numpydoc entry the help: one description serves Python and the shell.
Options that several protocols share are described once, in a `TypedDict` of `protocols.harness.shared`; a protocol takes
them as ``**common: Unpack[Learning]``.
"""

import inspect
import math
import re
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

from neurossl.errors import OptionError


def parse(run: Callable[..., Any], arguments: Sequence[str], what: str) -> dict[str, Any]:
    """Return the keyword arguments for ``run`` that command-line arguments describe.

    Parameters
    ----------
    run : callable
        A protocol's ``run``.
    arguments : sequence of str
        ``--name value``, ``--name=value``, or ``--flag`` for booleans.
    what : str
        The protocol's name, for error messages.

    Raises
    ------
    OptionError
        For unknown options, missing or unsuitable values; one line that names the option and what was expected.
    """
    options = options_of(run, what)
    values: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise OptionError(f"{what}: expected an option such as --seeds 3, got {word!r}")
        flag, equals, given = word[2:].partition("=")
        name = flag.replace("-", "_")
        if name not in options:
            close = get_close_matches(flag, [p.replace("_", "-") for p in options], 1)
            hint = f"did you mean --{close[0]}?" if close else "there are: " + ", ".join(_flag(p) for p in options)
            raise OptionError(f"{what}: option --{flag} does not exist; {hint}")
        if name in values:
            raise OptionError(f"{what}: option --{flag} is given twice")
        kind = options[name].kind
        if kind is bool:
            if equals:
                raise OptionError(f"{what}: option --{flag} takes no value, got {given!r}")
            values[name] = True
            continue
        if not equals:
            if not waiting or waiting[0].startswith("--"):
                raise OptionError(f"{what}: option --{flag} needs a value ({_expected(kind)})")
            given = waiting.pop(0)
            if get_origin(kind) is list:
                while waiting and not waiting[0].startswith("--"):
                    given += "," + waiting.pop(0)
        if not given and options[name].needed:
            raise OptionError(f"{what}: option --{flag} needs a value ({_expected(kind)}), got ''")
        values[name] = converted(kind, given, f"{what}: option --{flag}")
    missing = [name for name, option in options.items() if option.needed and name not in values]
    if missing:
        raise OptionError(f"{what}: option {_flag(missing[0])} is needed ({_expected(options[missing[0]].kind)})")
    return values


class Option(NamedTuple):
    """One option of a protocol.

    Attributes
    ----------
    kind : type
        bool, int, float, str or a list of one of these.
    default : object
        None where there is none to show.
    needed : bool
    text : str
        What it means.
    """

    kind: Any
    default: Any
    needed: bool
    text: str


def options_of(run: Callable[..., Any], what: str = "run") -> dict[str, Option]:
    """Return the options of a protocol by name: the parameters of ``run``, and the members of what it takes as ``**``.

    Raises
    ------
    OptionError
        If an annotation is no type.
    """
    try:
        hints = get_type_hints(run)
        parameters = inspect.signature(run).parameters.items()
    except Exception as reason:
        raise OptionError(f"{what}: run() has an annotation that is no type ({type(reason).__name__}: {reason})") from None
    documentation = inspect.getdoc(run) or ""
    found, shared = {}, {}
    for name, parameter in parameters:
        default, needed = parameter.default, parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            described = (get_args(hints.get(name)) or (None,))[0]
            if described is not None and not is_typeddict(described):
                raise OptionError(f"{what}: **{name} of run() must be an Unpack of a TypedDict of options")
            shared = {} if described is None else _members(described, getattr(run, "defaults", {}))
        elif parameter.kind is not inspect.Parameter.VAR_POSITIONAL:
            kind = next((k for k in (bool, int, float) if isinstance(default, k)), str)
            hint = _known(hints.get(name, kind), f"{what}: parameter {name!r} of run()")
            if hint is bool and default is True:
                raise OptionError(f"{what}: parameter {name!r} of run() is a flag: its default must be False")
            found[name] = Option(hint, None if needed else default, needed, "")
    found = {name: option._replace(text=_described(documentation, name)) for name, option in found.items()}
    return {**found, **{name: option for name, option in shared.items() if name not in found}}


def _members(described: Any, defaults: Mapping[str, Any]) -> dict[str, Option]:
    """Return the members of a `TypedDict` as options, described where they are declared: in its module."""
    own = _described_in(described.__module__)
    pages = [*own, *(page for part in own for page in _described_in(part.__module__))]
    text = "\n\n".join(inspect.getdoc(page) or "" for page in pages)
    hints = get_type_hints(described)
    kinds = {name: _known(hint, f"option {name!r} of {described.__name__}") for name, hint in hints.items()}
    shown = {name: defaults.get(name) for name in kinds if kinds[name] is not str or isinstance(defaults.get(name), str)}
    return {name: Option(kind, shown.get(name), False, _described(text, name)) for name, kind in kinds.items()}


def _described_in(module: str) -> list[Any]:
    return [page for page in vars(sys.modules[module]).values() if is_typeddict(page)]


def defaults(**values: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what a protocol takes where a shared option is not given; ``--help`` shows it."""

    def keep(run: Callable[..., Any]) -> Callable[..., Any]:
        run.defaults = values  # type: ignore[attr-defined]
        return run

    return keep


def help_text(run: Callable[..., Any], what: str) -> str:
    """Return usage and options of a protocol."""
    lines = [f"neurossl run {what} --out RUN [options]", "", (inspect.getdoc(run) or "").split("\n")[0], ""]
    for name, option in options_of(run, what).items():
        value = "" if option.kind is bool else f" {_expected(option.kind)}"
        default = option.default
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        says = isinstance(default, bool | int | float | str | list | tuple) and default not in (False, "", [], ())
        default_text = f" (default: {shown})" if says else ""
        lines.append(f"  {_flag(name) + value:<30}{option.text}{default_text}")
    return "\n".join(lines)


def _described(documentation: str, name: str) -> str:
    """Return the first sentence under a parameter's numpydoc entry."""
    match = re.search(rf"^{name}\s*:.*\n((?:[ \t]+.*\n?)+)", documentation, re.MULTILINE)
    return re.split(r"(?<!\.)\.(?: |$)", " ".join(match.group(1).split()))[0] if match else ""


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _plain(hint: Any) -> Any:
    """Return a type without ``None``; a union of a scalar and a list counts as the list."""
    if get_origin(hint) in (Union, types.UnionType):
        choices = [a for a in get_args(hint) if a is not type(None)]
        lists = [a for a in choices if get_origin(a) in (list, Sequence)]
        return _plain((lists or choices)[0])
    if get_origin(hint) not in (list, Sequence):
        return hint
    parts = get_args(hint)
    part = parts[0] if parts else str
    if get_origin(part) in (Union, types.UnionType):
        part = next((a for a in get_args(part) if a in (str, int, float)), str)
    return list[part]  # type: ignore[valid-type]


def _known(hint: Any, where: str) -> Any:
    """Return the kind of an option by its annotation.

    Raises
    ------
    OptionError
        If the words of a command line cannot be made one.
    """
    kind = _plain(hint)
    part = get_args(kind)[0] if get_origin(kind) is list else kind
    if part not in ((int, float, str, Any) if get_origin(kind) is list else (bool, int, float, str, Any)):
        shown = getattr(hint, "__name__", str(hint))
        raise OptionError(f"{where} is {shown}: expected bool, int, float, str, or list[...] of one of the last three")
    return kind


def _expected(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"{_expected(get_args(kind)[0])},..."
    return {int: "N", float: "X"}.get(kind, "VALUE")


def converted(kind: Any, text: str, where: str) -> Any:
    """Return the text of an option as its kind.

    Raises
    ------
    OptionError
        Naming the option, and what was expected.
    """
    if get_origin(kind) is list:
        parts = [part.strip() for part in text.split(",")]
        if text.strip() and not all(parts):
            raise OptionError(f"{where}: there is an empty part in {_short(text)}")
        return [converted(get_args(kind)[0], part, where) for part in parts if part]
    if kind not in (int, float):
        return text
    try:
        if not text.isascii():
            raise ValueError(text)
        number = kind(text)
    except ValueError:
        expected = "a whole number" if kind is int else "a number"
        raise OptionError(f"{where}: expected {expected}, got {_short(text)}") from None
    digits = re.split("[eE]", text)[0]
    if kind is float and number == 0 and re.search("[1-9]", digits):
        raise OptionError(f"{where}: expected a number that is not rounded to 0, got {_short(text)}")
    if kind is float and math.isinf(number) and re.search("[0-9]", digits):
        raise OptionError(f"{where}: expected a number of at most 1.8e308, got {_short(text)}")
    return number


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
