"""Command-line options from the signature of a protocol.

A protocol is a module with ``run(out, *, option=default, ...)``. Its keyword parameters become ``--option VALUE``, their
annotations the types, the first line of their numpydoc entry the help: one description serves Python and the shell.
"""

import inspect
import re
import types
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

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
    parameters = options_of(run)
    hints = _types(run, what)
    values: dict[str, Any] = {}
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            raise OptionError(f"{what}: expected an option such as --seeds 3, got {word!r}")
        flag, equals, given = word[2:].partition("=")
        name = flag.replace("-", "_")
        if name not in parameters:
            close = get_close_matches(flag, [p.replace("_", "-") for p in parameters], 1)
            hint = f"did you mean --{close[0]}?" if close else "there are: " + ", ".join(_flag(p) for p in parameters)
            raise OptionError(f"{what}: option --{flag} does not exist; {hint}")
        if name in values:
            raise OptionError(f"{what}: option --{flag} is given twice")
        kind = _plain(hints[name])
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
        if not given and parameters[name].default is inspect.Parameter.empty:
            raise OptionError(f"{what}: option --{flag} needs a value ({_expected(kind)}), got ''")
        values[name] = _convert(kind, given, f"{what}: option --{flag}")
    missing = [p for p, parameter in parameters.items() if parameter.default is inspect.Parameter.empty and p not in values]
    if missing:
        raise OptionError(f"{what}: option {_flag(missing[0])} is needed ({_expected(_plain(hints[missing[0]]))})")
    return values


def options_of(run: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of ``run`` that are options."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {n: p for n, p in inspect.signature(run).parameters.items() if p.kind in kinds}


def _types(run: Callable[..., Any], what: str) -> dict[str, Any]:
    """Return the type of every option: its annotation, or else the type of its default, or else text."""
    try:
        hints = get_type_hints(run)
    except (NameError, TypeError) as reason:
        raise OptionError(f"{what}: run() has an annotation that is no type ({reason})") from None
    defaults = {name: parameter.default for name, parameter in options_of(run).items()}
    return {n: type(d) if isinstance(d, bool | int | float) else str for n, d in defaults.items()} | hints


def help_text(run: Callable[..., Any], what: str) -> str:
    """Return usage and options of a protocol."""
    documentation = inspect.getdoc(run) or ""
    hints = _types(run, what)
    lines = [f"neurossl run {what} --out RUN [options]", "", documentation.split("\n")[0], ""]
    for name, parameter in options_of(run).items():
        kind = _plain(hints[name])
        value = "" if kind is bool else f" {_expected(kind)}"
        empty = parameter.default in (inspect.Parameter.empty, None, False)
        default = parameter.default
        shown = " ".join(map(str, default)) if isinstance(default, list | tuple) else default
        lines.append(
            f"  {_flag(name) + value:<30}{_described(documentation, name)}{'' if empty else f' (default: {shown})'}"
        )
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
    return list[get_args(hint)[0]] if get_origin(hint) in (list, Sequence) else hint  # type: ignore[misc]


def _expected(kind: Any) -> str:
    if get_origin(kind) is list:
        return f"{_expected(get_args(kind)[0])},..."
    return {int: "N", float: "X"}.get(kind, "VALUE")


def _convert(kind: Any, text: str, where: str) -> Any:
    if get_origin(kind) is list:
        return [_convert(get_args(kind)[0], part.strip(), where) for part in text.split(",") if part.strip()]
    if kind in (int, float):
        try:
            return kind(text.replace("_", "") if kind is int else text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise OptionError(f"{where}: expected {expected}, got {text!r}") from None
    return text
