"""Whether the self-test notices deliberate mistakes: ``python tests/mutants.py [--rule FAMILY] [--mistake TEXT] [--tests]``.

Every mistake of `mutations` is made in a copy of the package, one at a time, and the self-test is run on it. Noticed is what
the self-test reports as a failure of a file; a copy that cannot be imported is an error of the table. A copy without a
mistake goes first, and has to pass. One line per mistake, then a score per family; exit status 1 if the self-test notices
fewer than 9 of 10 mistakes of a family.
"""

import argparse
import compileall
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from mutations import MUTANTS, PREFIXES, Mutant
from mutations.base import ENGINE

PACKAGE = Path(__file__).resolve().parent.parent / "neurossl"
PASSED, NOTICED, BROKEN = 0, 1, 3
WORDS = {PASSED: "survived", NOTICED: "noticed", BROKEN: "BROKEN"}
NONE = Mutant("dfa", ENGINE + "projections.py", "return mean * area", "return area * mean", "none")
LIMIT = 90.0
TESTS: dict[str, tuple[str, ...]] = {
    "contrastive": ("rules", "rule_contract", "theory_equivalence", "specification"),
    "predictions": ("prediction",),
    "clapp": ("rules", "specification"),
    "optimal": ("optimal_feedback",),
    "infonce": ("rules", "specification"),
    "goodness": ("rules", "specification"),
    "scff": ("rules", "specification"),
    "barlow": ("local_statistics",),
    "vicreg": ("local_statistics",),
    "lpl": ("local_statistics",),
    "rpl": ("local_statistics",),
    "mono-forward": ("mono_forward",),
    "softhebb": ("softhebb",),
    "supervised and bp": ("rules", "rule_contract", "engine"),
    "fa": ("fixed_feedback", "learned_feedback"),
    "dfa": ("fixed_feedback", "rules"),
    "blocks": ("blocks",),
    "dual-prop": ("dual_propagation",),
    "pc": ("settling", "error_units", "theory_equivalence", "inference"),
    "epc": ("error_optimised",),
    "dfa-pc": ("direct_predictive",),
}
"""Test files that are about a family, beside those of every rule."""


class _Failed(Exception):
    """The self-test has reported a failure."""


def files_for(family: str) -> list[Path]:
    """Return all reference files, those of the family first."""
    files = sorted((PACKAGE / "selftest" / "reference").glob("*.npz"))
    return sorted(files, key=lambda file: not file.stem.startswith(PREFIXES[family]))


def compiled(folder: Path) -> Path:
    """Return a copy of the package with its bytecode, without reference files: copies of it need not be compiled."""
    package = folder / "neurossl"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "reference"))
    compileall.compile_dir(package, quiet=1)
    return package


def copied(mutant: Mutant, package: Path, folder: Path) -> None:
    """Write a package with a mistake into a folder."""
    shutil.copytree(package, folder / "neurossl", dirs_exist_ok=True)
    file = folder / "neurossl" / mutant.file
    file.write_text(mutant.applied(file.read_text(encoding="utf-8")), encoding="utf-8")


def _selftest(folder: str, files: Sequence[Path]) -> None:
    """Run the self-test of a copy in this process, up to the first failure, and end the process."""

    def hear(line: str) -> None:
        if line.startswith("FAIL"):
            raise _Failed

    try:
        sys.path.insert(0, folder)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        import neurossl
        from neurossl.selftest import run_selftest

        assert Path(str(neurossl.__file__)).is_relative_to(folder), "the copy is what is tested"
        os._exit(PASSED if run_selftest(files, report=hear) else NOTICED)
    except _Failed:
        os._exit(NOTICED)
    except BaseException:
        os._exit(BROKEN)


def verdict(mutant: Mutant, package: Path = PACKAGE, files: Sequence[Path] = ()) -> int:
    """Return PASSED, NOTICED or BROKEN: what the self-test says of a mistake; asked again if its process was lost."""
    said = _verdict(mutant, package, files)
    return _verdict(mutant, package, files) if said == BROKEN else said


def _verdict(mutant: Mutant, package: Path, files: Sequence[Path]) -> int:
    with tempfile.TemporaryDirectory(prefix="neurossl-mutant-") as name:
        copied(mutant, package, Path(name))
        process = _context().Process(target=_selftest, args=(name, files or files_for(mutant.family)))
        process.start()
        process.join(LIMIT)
        if process.is_alive():
            process.kill()
            process.join()
        return BROKEN if process.exitcode not in (PASSED, NOTICED) else process.exitcode


def _context() -> "multiprocessing.context.ForkServerContext":
    """Return a server of processes that have imported torch, but not the package."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["numpy", "torch", "torch._dynamo", "PIL.Image"])
    return context


def tests_fail(family: str, mutant: Mutant | None) -> bool:
    """Return whether the tests of a family fail, in a copy with a mistake or without."""
    with tempfile.TemporaryDirectory(prefix="neurossl-mutant-") as name:
        root = PACKAGE.parent
        for other in ("neurossl", "analysis", "protocols", "tests"):
            shutil.copytree(root / other, Path(name) / other, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "setup.cfg", name)
        if mutant is not None:
            copied(mutant, PACKAGE, Path(name))
        tests = ["tests/test_every_rule.py", "tests/test_rule_contract.py"]
        tests += [f"tests/test_{file}.py" for file in TESTS[family]]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *dict.fromkeys(tests)]
        environment = os.environ | {"PYTHONPATH": name}
        done = subprocess.run(command, cwd=name, env=environment, capture_output=True, check=False)
        return done.returncode != 0


def verdicts(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, int]]:
    """Yield what the self-test says of every mistake, two at a time."""
    with tempfile.TemporaryDirectory(prefix="neurossl-compiled-") as name, ThreadPoolExecutor(2) as pool:
        package = compiled(Path(name))
        yield from zip(mutants, pool.map(partial(verdict, package=package), mutants), strict=True)


def chosen(families: Sequence[str], mistakes: Sequence[str]) -> list[Mutant]:
    """Return the mistakes of some families, or all; of them, those whose lines have one of some texts."""
    of = [m for m in MUTANTS if not families or m.family in families]
    return [m for m in of if not mistakes or any(text in str(m) for text in mistakes)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per mistake and a score per family; 1 where one is below 9 of 10, 2 where nothing can be said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rule", choices=list(PREFIXES), action="append", default=[], help="this family only")
    parser.add_argument("--mistake", action="append", default=[], metavar="TEXT", help="what has this text in its line only")
    parser.add_argument("--tests", action="store_true", help="also run the tests of what the self-test does not notice")
    options = parser.parse_args(arguments)
    mutants = chosen(options.rule, options.mistake)
    if not mutants:
        parser.error(f"no mistake has {' or '.join(map(repr, options.mistake))} in its line")
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, list[bool]] = {}
    survivors, broken = [], 0
    for mutant, said in verdicts([NONE, *mutants]):
        print(f"{WORDS[said]:<9} {mutant}", flush=True)
        if mutant is NONE:
            if said != PASSED:
                print("the self-test fails without a mistake: nothing can be said of mistakes", file=sys.stderr)
                return 2
            continue
        found.setdefault(mutant.family, []).append(said == NOTICED)
        broken += said == BROKEN
        survivors += [mutant] if said == PASSED else []
    print()
    for family, them in found.items():
        print(f"{family:<18} {sum(them):2d} of {len(them)}")
    sound = {m.family: not tests_fail(m.family, None) for m in survivors if options.tests}
    for mutant in survivors if options.tests else []:
        if sound[mutant.family]:
            word = "the tests notice" if tests_fail(mutant.family, mutant) else "SURVIVED the tests"
        else:
            word = "the tests fail without it, too"
        print(f"{word}: {mutant}", flush=True)
    return int(broken > 0 or any(sum(them) < 0.9 * len(them) for them in found.values()))


if __name__ == "__main__":
    sys.exit(main())
