"""The command line as users meet it: numbers, scripts with unlucky names, folders of their own, plain terminals."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import analysis
from neurossl.errors import OptionError
from protocols import compare_rules
from protocols.cli import main
from protocols.harness.options import options_of, parse
from protocols.harness.rules import choose_rules, safe_name
from protocols.images.tasks import place


def neurossl(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "protocols.cli", *words]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=cwd, env={**os.environ, **environment})


def _numbers(out: str, *, count: int = 1, rate: float = 1.0) -> None:
    """Take numbers."""


@pytest.mark.parametrize(
    "words",
    [
        ["--count", "\uff11\uff12"],
        ["--count", "1_0_"],
        ["--rate", "1e-400"],
        ["--rate", "1e400"],
        ["--rate", "\uff11.5"],
        ["--count", "1.5"],
    ],
)
def test_what_is_no_number_is_refused(words: list[str]) -> None:
    with pytest.raises(OptionError, match="expected a"):
        parse(_numbers, ["--out", "x", *words], "it")


def test_numbers_are_taken_as_they_are() -> None:
    words = ["--out", "x", "--count", "1_000", "--rate", "0.0"]
    assert parse(_numbers, words, "it") == {"out": "x", "count": 1000, "rate": 0.0}


@pytest.mark.parametrize(
    ("option", "said"), [("--epochs", "epochs"), ("--images", "images"), ("--trial-epochs", "trial epochs")]
)
def test_nothing_never_means_the_default(option: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "image_benchmark", "--out", str(tmp_path / "x"), "--tiny", option, "0"]) == 2
    assert f"{said}: expected a whole number from 1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_shared_options_are_described_once_and_listed_by_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "compare_rules", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--resume" in shown
    assert "Go on with what there is" in shown
    for option in options_of(compare_rules.run).values():
        assert option.text


def test_an_unknown_keyword_is_refused_as_python_does(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'speed'"):
        compare_rules.run(str(tmp_path / "x"), speed=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["random", "queue", "types", "analysis", "protocols"])
def test_a_script_may_have_any_name_and_import_what_lies_beside_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("x = 41\n")
    (tmp_path / f"{name}.py").write_text(
        "import random, queue, types, helper\n\ndef run(out: str) -> None:\n"
        "    print(helper.x + 1, queue.Queue is not None, types.ModuleType is not None, random.random() < 1)\n"
    )
    done = neurossl("run", str(tmp_path / f"{name}.py"), "--out", "x")
    assert done.stdout == b"42 True True True\n", done.stderr


SCRIPT = """
from neurossl.analysis import TrajectoryWriter
from neurossl.protocols import compare_rules
from neurossl.errors import NeurosslError
import analysis, protocols

def run(out: str) -> None:
    print(analysis.mine, protocols.mine, TrajectoryWriter.__name__)
    print(len(compare_rules.run(out, rules=["bp"], tiny=True, workers=1).table))

if __name__ == "__main__":
    run("there")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["python", "neurossl run"])
def test_folders_beside_a_script_hide_nothing(way: str, tmp_path: Path) -> None:
    for name in ("analysis", "protocols"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"mine = 'my {name}'\n")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    if way == "python":
        done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=120, check=False, cwd=tmp_path)
    else:
        done = neurossl("run", str(script), "--out", str(tmp_path / "there"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"my analysis my protocols TrajectoryWriter\n")
    assert (tmp_path / "there" / "report.html").is_file()


def test_the_packages_have_two_names_and_are_one() -> None:
    code = (
        "import neurossl.analysis, neurossl.protocols.cli, analysis, protocols.cli; from neurossl.analysis import storage;"
        "import analysis.storage as s; assert neurossl.analysis is analysis and storage is s;"
        "assert neurossl.protocols.cli is protocols.cli and analysis.__spec__.name == 'analysis'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_terminal_that_knows_ascii_alone_and_a_notebooks_backend_are_no_problem(tmp_path: Path) -> None:
    words = ["run", "compare_rules", "--tiny", "--rules", "bp", "--seeds", "2", "--out", str(tmp_path / "run")]
    environment = {"PYTHONIOENCODING": "ascii", "MPLBACKEND": "module://matplotlib_inline.backend_inline", "LC_ALL": "C"}
    done = neurossl(*words, **environment)
    assert done.returncode == 0, done.stderr
    assert b"+-" in done.stdout


@pytest.mark.slow
def test_a_folder_whose_name_is_no_utf8(tmp_path: Path) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")
    done = neurossl("run", "compare_rules", "--tiny", "--rules", "bp", "--out", out)
    assert done.returncode == 0, done.stderr
    assert Path(out, "report.html").is_file()


@pytest.mark.slow
def test_the_command_is_stored_as_it_was_given_and_works(tmp_path: Path) -> None:
    words = [
        "run",
        "compare_rules",
        "--tiny",
        "--rules",
        "bp",
        "--out",
        str(tmp_path / "my run $x"),
        "--network",
        "mlp:16-16",
    ]
    assert main(words) == 0
    stored = json.loads((tmp_path / "my run $x" / "results.json").read_text())["command"]
    assert stored == ["neurossl", *words]
    page = (tmp_path / "my run $x" / "report.html").read_text()
    assert shlex.join(stored).replace("'", "&#39;") in page
    (tmp_path / "my run $x").rename(tmp_path / "first")
    line = shlex.join([sys.executable, "-m", "protocols.cli", *stored[1:]])
    assert subprocess.run(line, shell=True, capture_output=True, timeout=120, check=False).returncode == 0
    tables = [json.loads((tmp_path / n / "results.json").read_text())["table"] for n in ("first", "my run $x")]
    assert {k: v for k, v in tables[0][0].items() if "seconds" not in k} == {
        k: v for k, v in tables[1][0].items() if "seconds" not in k
    }


def test_paths_are_those_of_the_beginning_whatever_the_working_directory_becomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "else").mkdir()
    script = tmp_path / "moves.py"
    script.write_text(
        "import os\nfrom protocols import compare_rules\n\ndef run(out: str) -> None:\n"
        "    os.chdir('else')\n    compare_rules.run(out, rules=['bp'], tiny=True, workers=1)\n"
    )
    assert neurossl("run", str(script), "--out=~/there", cwd=tmp_path, HOME=str(tmp_path)).returncode == 0
    assert (tmp_path / "there" / "report.html").is_file()


def test_rules_come_by_name_with_options_from_files_and_as_objects(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from neurossl.plasticity import Rule\n\nclass Hebb(Rule):\n"
        "    '''Credit is the activity.'''\n    name = 'hebb'\n    def __init__(self, gain: float = 1.0) -> None:\n"
        "        self.gain = gain\n    def credit_at(self, site, moment):\n        return 1e-3 * self.gain * site.activity\n"
    )
    rules = [f"{tmp_path / 'mine.py'}:Hebb:gain=2", "pc:steps=2", "pc:steps=3:lr=1e-4"]
    assert [rule.name for rule in choose_rules(rules)] == ["Hebb-gain=2", "pc-steps=2", "pc-steps=3-lr=1e-4"]
    made = choose_rules(rules)[0].rule
    made.name = "an object"
    table = compare_rules.run(str(tmp_path / "run"), rules=[*rules, made], tiny=True, workers=1).table
    assert [record["rule"] for record in table] == [
        *("Hebb (gain=2)", "PC, supervised (steps=2)", "PC, supervised (steps=3, lr=1e-4)", "an object")
    ]
    assert (tmp_path / "run" / "an-object" / "seed-0").is_dir()


def test_rules_and_their_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    assert "clapp++dfb" in capsys.readouterr().out
    assert main(["rules", "pc"]) == 0
    shown = capsys.readouterr().out
    assert "Relaxation steps" in shown
    assert "(default: 20)" in shown
    assert main(["rules", "clap"]) == 2


def test_names_of_folders_are_single_and_safe() -> None:
    assert [place(name) for name in ("folder:..", "folder:/a/b/", "stream:a b", "digits")] == [
        "unnamed",
        "b",
        "a-b",
        "digits",
    ]
    assert [safe_name(name) for name in ("../../x", "", "a/b", ".hidden")] == ["x", "unnamed", "a-b", "hidden"]


def test_without_torch_running_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = neurossl("run", "compare_rules", "--out", "x", PYTHONPATH=search)
    assert done.returncode == 2
    assert done.stderr.decode() == "neurossl: this needs torch, which is not installed: pip install 'neurossl[simulate]'\n"


def test_a_report_that_fails_hides_no_failed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "summarise", lambda *args, **options: 1 / 0)
    path = tmp_path / "bad.py"
    path.write_text(
        "from neurossl.plasticity import Rule\n\nclass Bad(Rule):\n"
        "    def credit_at(self, site, moment):\n        raise ValueError('no')\n"
    )
    words = ["run", "compare_rules", "--tiny", "--workers", "1", "--rules", f"bp,{path}:Bad", "--out", str(tmp_path / "run")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "Bad/seed-0: " in said
    assert "the report: ZeroDivisionError" in said


def test_a_refusal_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        compare_rules.run(str(tmp_path / "a" / "b"), rules=["bp"], tiny=True, lr=-1.0)
    with pytest.raises(OptionError):
        compare_rules.run(str(tmp_path / "a" / "b"), rules=["bp:speed=1"], tiny=True)
    assert not list(tmp_path.iterdir())
