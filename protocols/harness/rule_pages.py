"""What there is to know about the rules from the command line: their names, what each needs, and all their options."""

import inspect
import re
from typing import Any

from neurossl.plasticity import RULES, Rule, make_rule


def rule_list() -> str:
    """Return every rule in a line: its name, objective, transport, and what it needs at the synapse."""
    rows = [("rule", "objective", "transport", "needs")]
    for name in RULES:
        about = make_rule(name).describe()
        rows.append(
            (name, about["objective"], about["transport"], ", ".join(about["needs"]) or "nothing beyond the synapse")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "neurossl rules NAME lists the options of one; --rules NAME:OPTION=VALUE sets them."])


def rule_page(name: str) -> str:
    """Return what a rule does, and its options with their defaults and what they mean.

    Raises
    ------
    OptionError
        If there is no such rule.
    """
    rule = make_rule(name)
    about = rule.describe()
    lines = [f"{name}: {about['objective']}, transport: {about['transport']}"]
    lines.append(f"needs: {', '.join(about['needs']) or 'nothing beyond the synapse'}")
    objective = getattr(rule, "objective", None)
    for part in (rule, objective):
        if part is not None:
            lines += ["", _first_paragraph(type(part)), *_options(part)]
    return "\n".join(lines)


def _first_paragraph(kind: type) -> str:
    return f"{kind.__name__}: " + " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _options(part: Rule | Any) -> list[str]:
    """Return the options of a rule or an objective, a line each; their values are those that the rule of this name has."""
    documentation = inspect.getdoc(type(part)) or ""
    lines = []
    for option, parameter in inspect.signature(type(part)).parameters.items():
        if option in ("objective", "self") or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = getattr(part, option, parameter.default)
        if not isinstance(value, str | int | float | bool | None):
            value = parameter.default
        shown = "" if value is inspect.Parameter.empty else f" (default: {_plain(value)})"
        match = re.search(rf"^{option}\s*:(.*)\n((?:[ \t]+.*\n?)*)", documentation, re.MULTILINE)
        text = " ".join(" ".join(match.groups()).split()) if match else ""
        lines.append(f"  {option:<14}{text}{shown}")
    return lines


def _plain(value: Any) -> str:
    return " ".join(sorted(value)) if isinstance(value, set | frozenset) else str(value)
