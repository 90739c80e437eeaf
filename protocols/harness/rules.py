"""Rules as a protocol is given them: by name, with options, from a file of the user's, or as objects.

clapp                       a name out of `neurossl.RULES`
pc:steps=20:rate=0.1        the same with options; several of them make a sweep
clapp:lr=1e-3               with a learning rate of its own
mine.py:Variance:gain=2     a class (or function) of a file that makes a rule, or an objective for local learning
all                         every rule there is that can learn in the network (where a protocol says so)
"""

import copy
import hashlib
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurossl.anatomy.network import Network
from neurossl.errors import NeurosslError, OptionError
from neurossl.files import absolute
from neurossl.plasticity import RULES, Backprop, Local, Objective, Rule, make_rule
from neurossl.plasticity.proposal import wired
from protocols.harness.options import converted
from protocols.harness.printing import say
from protocols.harness.scripts import load_script, naming_the_script


@dataclass(frozen=True, eq=False)
class ChosenRule:
    """A rule that a protocol compares.

    Attributes
    ----------
    key : str
        How it was asked for; files by their absolute paths.
    base : str
        Name of the rule without its options.
    name : str
        As a folder can have it.
    suffix : str
        What its options add to a label.
    rate : float, optional
        Learning rate of its own.
    rule : Rule
        Never used itself, but copied.
    digest : str
        Of its file; "" where it comes with neurossl.
    """

    key: str
    base: str
    name: str
    suffix: str
    rate: float | None
    rule: Rule
    digest: str = ""

    def make(self) -> Rule:
        """Return a rule of its own for one run."""
        return copy.deepcopy(self.rule)


def choose_rules(
    given: Sequence[str | Rule],
    usual_options: Mapping[str, Mapping[str, Any]] | None = None,
    named: Sequence[str | Rule] | None = None,
) -> list[ChosenRule]:
    """Return the rules that are asked for, each once.

    Parameters
    ----------
    given : sequence of str or Rule
    usual_options : mapping of str to mapping
        Options of rules that differ from the rules' own defaults.
    named : sequence of str or Rule, optional
        Those that the user has named now, where others come from a folder: no file is run because that says so.

    Raises
    ------
    OptionError
        For unknown rules or options, rules that are given twice, and files that nobody has named.
    """
    unnamed = [one for one in given if named is not None and isinstance(one, str) and ".py:" in one and one not in named]
    if unnamed:
        raise OptionError(f"--resume: there are runs of a rule in a file, which is run if you name it: --rules {unnamed[0]}")
    chosen = [_chosen(one, usual_options or {}) for one in given]
    names = [one.name for one in chosen]
    if not chosen or len(set(names)) < len(names):
        raise OptionError(f"rules: expected different names out of {', '.join(RULES)}, got {', '.join(names) or 'none'}")
    return chosen


ALL = "all"
"""What stands for every rule that can learn in a network."""


def with_every_rule(
    given: Sequence[str | Rule], network_for: Callable[[Rule], Network], usual: Mapping[str, Mapping[str, Any]]
) -> list[str | Rule]:
    """Return the rules that are asked for, with "all" replaced by the names of those that can learn in a network.

    Local rules come first, then those that carry credit down from the top, backprop last; what is named besides stays in its
    place. Those that cannot be joined to the network are left out, which one printed line says.

    Parameters
    ----------
    given : sequence of str or Rule
    network_for : callable
        Returns the network of a rule.
    usual : mapping of str to mapping
        Options of rules that differ from the rules' own defaults.
    """
    if ALL not in given:
        return list(given)
    named = [one for one in given if one != ALL]
    can: dict[str, Rule] = {}
    without: list[str] = []
    for name in (name for name in RULES if name not in named):
        rule = make_rule(name, **usual.get(name, {}))
        try:
            wired(rule, network_for(rule))
        except NeurosslError as reason:
            without.append(f"{name} ({reason})")
        else:
            can[name] = rule
    if without:
        say(f"left out of all rules: {'; '.join(without)}")
    place = list(given).index(ALL)
    return [*named[:place], *sorted(can, key=lambda name: _distance(can[name])), *named[place:]]


def _distance(rule: Rule) -> int:
    """Return 0 for a local rule, 2 for backprop, 1 for what is between."""
    return 2 if isinstance(rule, Backprop) else 0 if rule.transport.startswith("none") else 1


def _chosen(given: str | Rule, usual: Mapping[str, Mapping[str, Any]]) -> ChosenRule:
    if isinstance(given, Rule):
        return ChosenRule(given.name, given.name, safe_name(given.name), "", None, given)
    file, dot, rest = given.rpartition(".py:") if ".py:" in given else ("", "", given)
    base, *words = rest.split(":")
    if not dot and base.endswith(".py"):
        raise OptionError(f"rule {given!r}: which of its rules? expected {base}:NAME, the name of a class in that file")
    options = {}
    for word in words:
        option, equals, value = word.partition("=")
        if not equals or not option.isidentifier():
            raise OptionError(f"rule {given!r}: expected options such as {base}:steps=20, got {word!r}")
        if option in options:
            raise OptionError(f"rule {given!r}: option {option} is given twice")
        options[option] = _value(value, f"rule {given!r}: option {option}")
    rate = options.pop("lr", None)
    if rate is not None and (isinstance(rate, str) or not 0 <= rate < float("inf")):
        raise OptionError(f"rule {given!r}: lr must be a finite number >= 0, got {rate!r}")
    suffix = f" ({', '.join(words)})" if words else ""
    if not dot:
        rule = make_rule(base, **{**usual.get(base, {}), **options})
        return ChosenRule(given, base, safe_name(":".join([base, *words])), suffix, rate, rule)
    path = absolute(f"{file}.py")
    rule = _from_file(path, base, options)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    key = ":".join([f"{path}", base, *words])
    return ChosenRule(key, base, safe_name(":".join([base, *words])), suffix, rate, rule, digest)


def _from_file(path: Path, name: str, options: Mapping[str, Any]) -> Rule:
    module = load_script(path, "rule script")
    found = getattr(module, name, None)
    if found is None:
        there = [n for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__]
        raise OptionError(f"rule script {str(path)!r}: there is no {name!r}; there are: {', '.join(there) or 'no classes'}")
    with naming_the_script(path, OptionError, "rule script"):
        made = found(**options) if callable(found) else found
    rule = Local(made) if isinstance(made, Objective) else made
    if not isinstance(rule, Rule):
        raise OptionError(f"rule script {str(path)!r}: {name} makes no rule and no objective, but {type(made).__name__}")
    if rule.name in ("", "local", "rule"):
        rule.name = name
    return rule


def _value(text: str, where: str) -> Any:
    """Return an option's value: a whole number, a number, true or false, or text."""
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return converted(int, text, where)
    if re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return converted(float, text, where)
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise OptionError(f"{where}: expected a finite number, got {text!r}")
    return text


def canonical(rule: Any) -> Any:
    """Return a rule as it is stored: the file of one's own by its absolute path."""
    if not isinstance(rule, str) or ".py:" not in rule:
        return rule
    file, _, rest = rule.rpartition(".py:")
    return f"{absolute(f'{file}.py')}:{rest}"


def safe_name(text: str) -> str:
    """Return a text as the name of one folder: no separator, no leading dot, never empty."""
    name = re.sub(r"[^\w.+=-]", "-", text, flags=re.ASCII).lstrip(".-")
    if not text.isascii():  # names that differ stay different
        name = f"{name or 'rule'}-{zlib.crc32(text.encode(errors='surrogateescape')):08x}"
    return name or "unnamed"
