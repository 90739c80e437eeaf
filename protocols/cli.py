"""The command line ``neurossl``.

Only ``run`` and ``selftest`` need torch; everything that reads what is stored does without.
"""

import ast
import io
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from inspect import iscoroutinefunction, isgeneratorfunction, signature
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import protocols
from neurossl.errors import Interrupted, NeurosslError, OptionError
from neurossl.files import absolute
from neurossl.siblings import load_apart, own_packages
from neurossl.surroundings import remedy_for
from neurossl.text import one_line
from protocols.harness import command
from protocols.harness.options import help_text, parse
from protocols.harness.printing import say, width
from protocols.harness.scripts import ScriptError, find_beside, load_script, naming_the_script
from protocols.harness.signals import ignore_further, stopping, within

USAGE = """\
neurossl list                                     protocols, one line each
neurossl run PROTOCOL|SCRIPT.py --out RUN [--OPTION VALUE ...]
                                                  run a protocol; --help after its name lists its options
neurossl compare RUN RUN ... [--out report.html]  compare stored runs
neurossl report RUN_OR_FILE [--out report.html]   write the report of a stored run
neurossl info RUN_OR_FILE                         what is in it, in words
neurossl verify RUN_OR_FILE                       re-read every stored byte against its checksum
neurossl export RUN FILE.nc [--format zarr]       one ordinary NetCDF-4 file, or a sharded zarr folder
neurossl compact RUN                              join its small segments into larger ones
neurossl rules [NAME ...]                         the plasticity rules, or all options of some
neurossl selftest [FILE ...] [--device D] [--dtype T]
                                                  the rules against reference values
neurossl selftest --rule mine.py:NAME[:OPTION=VALUE] | NAME | all
                                                  a rule of your own (or a registered one) against the contract of rules
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    0: done. 1: a run that could not finish, a self-test that failed. 2: something to put right, said in one line.
    130, 143, 129: ended by Ctrl-C, SIGTERM, or a terminal that was closed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows ASCII alone, a name that is no text
    warnings.showwarning = _warned
    with stopping():
        return _told_in_a_line(words)


def _warned(message: Warning | str, *about: Any, **options: Any) -> None:
    """Say a warning in a line, without the line of our own that gave it."""
    if sys.stderr is not None:
        print(f"neurossl: note: {one_line(message)}", file=sys.stderr)


def _told_in_a_line(words: list[str]) -> int:
    """Run a command; what goes wrong is one line on stderr."""
    try:
        try:
            return _dispatch(words)
        except Exception as error:
            if (reason := within(error)) is None:
                raise
            raise reason from None
    except NeurosslError as error:
        if isinstance(error, Interrupted):
            ignore_further()
        print(f"neurossl: {one_line(error)}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("neurossl: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        if (remedy := remedy_for(error)) is None:
            raise
        print(f"neurossl: {remedy}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"neurossl: {error.filename or 'this folder or stdout'}: {error.strerror or error}", file=sys.stderr)
        return 2


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["help"] and len(words) == 2 and words[1] in COMMANDS:
        words = [words[1], "--help"]
    if not words or words[0] in ("-h", "--help", "help"):
        if len(words) > 1:
            raise OptionError(f"help: expected a command ({', '.join(COMMANDS)}), got {words[1]!r}")
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        from neurossl.version import __version__

        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        close = get_close_matches(command, COMMANDS, 1)
        hint = f"did you mean {close[0]!r}?" if close else "there are: " + ", ".join(COMMANDS)
        raise OptionError(f"command {command!r} does not exist; {hint}")
    if rest in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    return COMMANDS[command](rest)


def protocol_names() -> list[str]:
    """Return the names of the protocols that come with the package: the modules with a function ``run(out, ...)``."""
    return sorted(m.name for m in pkgutil.iter_modules(protocols.__path__) if not m.ispkg and _runs(_parsed(m.name)))


def load_protocol(name: str) -> ModuleType:
    """Return the module of a protocol, by name or path of a script.

    Raises
    ------
    OptionError
        If there is no such protocol or script, or it has no ``run``.
    """
    if name.endswith(".py"):
        module = load_script(Path(name))
    elif name in protocol_names():
        module = import_module(f"{protocols.__name__}.{name}")
    else:
        close = get_close_matches(name, protocol_names(), 1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"there are: {', '.join(protocol_names())}, or the path of a script.py"
        )
        raise OptionError(f"protocol {name!r} does not exist; {hint}")
    run = getattr(module, "run", None)
    if not isinstance(run, FunctionType) or iscoroutinefunction(run) or isgeneratorfunction(run):
        raise OptionError(f"protocol {name!r} has no function run(out, ...) that does its work when it is called")
    if any(p.kind is p.POSITIONAL_ONLY for p in signature(run).parameters.values()):
        raise OptionError(f"protocol {name!r}: parameters of run() must not be positional-only")
    return module


def _list(words: list[str]) -> int:
    _expect("list", words, 0, 0)
    for name in protocol_names():
        print(f"{name:<24}{_first_line(name)}")
    return 0


def _parsed(name: str) -> ast.Module:
    """Return the source of a module of this package without importing it (and torch)."""
    return ast.parse((Path(protocols.__path__[0]) / f"{name}.py").read_text())


def _runs(module: ast.Module) -> bool:
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == "run"]
    return any(function.args.args and function.args.args[0].arg == "out" for function in functions)


def _first_line(name: str) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(_parsed(name)) or "").split("\n")[0].rstrip(".")


def _run(words: list[str]) -> int:
    if not words or words[0].startswith("--"):
        raise OptionError(f"run: expected the name of a protocol ({', '.join(protocol_names())}) or the path of a script.py")
    script = absolute(words[0]) if words[0].endswith(".py") else Path(words[0])
    if script.suffix == ".py" and __package__ == "protocols" and own_packages(script.parent):
        # These names are the script's: what lies beside it wins, and what is installed goes by neurossl.analysis.
        find_beside(script.parent)
        load_apart()
        return import_module("neurossl.protocols.cli").main(["run", *words])
    module = load_protocol(words[0])
    if "--help" in words[1:]:
        print(help_text(module.run, words[0]))
        return 0
    options = parse(module.run, words[1:], words[0])
    with command.remembered(["run", *words]):
        if words[0].endswith(".py"):
            with naming_the_script(script, ScriptError):
                status = module.run(**options)
        else:
            status = module.run(**options)
    return status % 256 if isinstance(status, int) and not isinstance(status, bool) else 0


def _paths(command: str, words: list[str], least: int, most: int | None = None) -> tuple[list[str], str | None]:
    """Return the paths and the value of --out."""
    paths, out = [], None
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word == "--out" or word.startswith("--out="):
            given = word.partition("=")[2] or (waiting.pop(0) if waiting else "")
            if not given:
                raise OptionError(f"{command}: option --out needs the path of an .html file")
            out = given
        else:
            paths.append(word)
    _expect(command, paths, least, most)
    return paths, out


def _expect(command: str, words: list[str], least: int, most: int | None) -> None:
    if not all(words):
        raise OptionError(f"{command}: expected a path, got ''")
    unknown = [w for w in words if w.startswith("-")]
    if unknown:
        raise OptionError(f"{command}: option {unknown[0]} does not exist (see neurossl --help)")
    if len(words) < least or (most is not None and len(words) > most):
        wanted = f"{least}" if most == least else f"at least {least}" if most is None else f"{least} to {most}"
        raise OptionError(f"{command}: expected {wanted} paths, got {len(words)} (see neurossl --help)")


def _compare(words: list[str]) -> int:
    paths, out = _paths("compare", words, 1)
    return _report_on(paths, out or "report.html")


def _report(words: list[str]) -> int:
    import analysis

    paths, out = _paths("report", words, 1, 1)
    folder = Path(paths[0])
    target = out or str(folder.with_suffix(".html") if folder.is_file() else folder / "report.html")
    results = analysis.read_results(folder) if (folder / "results.json").is_file() else None
    index = _index(folder / "comparison.json")
    lists_runs = bool(index.get("runs", True)) if index is not None else False
    if results is not None and index is not None and _grown(index, results):
        earlier = folder / "results.json"
        say(f"{earlier} is of an earlier budget than the runs there, which have not all ended since: add --resume")
        results = None
    if results is None:
        return _report_on(paths, target)
    comparison = analysis.open_comparison(paths).finished() if lists_runs and results.curves else None
    say(results.text(width()))
    say(str(analysis.write_report(comparison, target, results=results)))
    return 0


def _index(path: Path) -> dict[str, Any] | None:
    """Return the index of a protocol; None where there is none, {} where it cannot be read, which who opens it says."""
    try:
        content = json.loads(path.read_text()) if path.is_file() else None
    except (ValueError, OSError, RecursionError):
        return {}
    return content if isinstance(content, dict) or content is None else {}


def _grown(index: Mapping[str, Any], results: Any) -> bool:
    """Return whether runs have been asked for a larger budget since the results were stored."""
    options = index.get("options")
    return isinstance(options, Mapping) and options.get("budget") != results.options.get("budget")


def _report_on(paths: list[str], out: str) -> int:
    import analysis

    everything = analysis.open_comparison(paths)
    ended = everything.finished()
    comparison = ended if ended.runs else everything  # what has not finished counts only where there is nothing else
    say(analysis.summarise(comparison).text(width()))
    say(str(analysis.write_report(comparison, out)))
    return 0


def _info(words: list[str]) -> int:
    import analysis

    _expect("info", words, 1, 1)
    say(str(analysis.describe(words[0])))
    return 0


def _verify(words: list[str]) -> int:
    import analysis

    _expect("verify", words, 1, 1)
    say(str(analysis.verify(words[0])))
    return 0


def _export(words: list[str]) -> int:
    import analysis

    paths, format = list(words), "netcdf"
    for place, word in enumerate(words):
        if word == "--format" or word.startswith("--format="):
            given = words[place : place + 2] if word == "--format" else [word]
            format = (given[1] if len(given) > 1 else "") if word == "--format" else word.partition("=")[2]
            paths = [path for number, path in enumerate(words) if not place <= number < place + len(given)]
            break
    _expect("export", paths, 2, 2)
    say(str(analysis.export(paths[0], paths[1], format)))
    return 0


def _compact(words: list[str]) -> int:
    import analysis

    _expect("compact", words, 1, 1)
    for path in analysis.runs_below(words[0]):
        say(str(analysis.compact(path)))
    return 0


def _selftest(words: list[str]) -> int:
    from neurossl.selftest import run_selftest

    files: list[str] = []
    rules: list[str] = []
    options: dict[str, str] = {}
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        flag, equals, given = word.partition("=")
        if not flag.startswith("--"):
            files.append(word)
            continue
        if flag[2:] not in ("device", "dtype", "rule"):
            raise OptionError(f"selftest: option {flag} does not exist; there are: --device, --dtype, --rule")
        if not equals:
            if not waiting:
                raise OptionError(f"selftest: option {flag} needs a value")
            given = waiting.pop(0)
        if flag == "--rule":
            rules.append(given)
        else:
            options[flag[2:]] = given
    if rules:
        if files or options:
            other = files[0] if files else f"--{next(iter(options))}"
            raise OptionError(f"selftest: --rule is checked on the CPU in both number types, without {other}: leave it out")
        from protocols.harness.contract import check_chosen

        return 0 if check_chosen(rules) else 1
    return 0 if run_selftest(files, options.get("device", "cpu"), options.get("dtype", "float64")) else 1


def _rules(words: list[str]) -> int:
    from protocols.harness.rule_pages import rule_list, rule_page

    _expect("rules", words, 0, None)
    say("\n\n".join(map(rule_page, words)) if words else rule_list())
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "list": _list,
    "run": _run,
    "compare": _compare,
    "report": _report,
    "info": _info,
    "verify": _verify,
    "export": _export,
    "compact": _compact,
    "rules": _rules,
    "selftest": _selftest,
}

if __name__ == "__main__":
    sys.exit(main())
