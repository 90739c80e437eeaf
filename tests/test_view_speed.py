"""How fast views are: the protocol measures both in turns, and what it times does the same."""

import json
from pathlib import Path

import pytest
import torch

from neurossl.errors import OptionError
from neurossl.stimuli import Views, default_views, load_images
from protocols import view_speed
from protocols.cli import main
from protocols.speed import views as views_of


def test_the_protocol_measures_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    assert main(["run", "view_speed", "--out", str(tmp_path / "speed"), "--tiny"]) == 0
    assert torch.get_num_threads() == before
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(tmp_path / "speed" / "report.html")
    assert "do not differ more than by chance in brightness, contrast, saturation" in printed
    content = json.loads((tmp_path / "speed" / "results.json").read_text())
    table = content["table"]
    assert [r["step"] for r in table[2:]] == ["crop and flip", "colour jitter", "grayscale", "blur", "tensor, normalise"]
    for record in table:
        assert record["views per second, neurossl (median)"] > 0
        assert record["views per second, torchvision (median)"] > 0
        assert 0 < record["times as fast (lower quartile)"] <= record["times as fast (median)"]
    assert (tmp_path / "speed" / "report.html").read_text().count("<figure ") == 3


def test_single_steps_do_one_thing_each() -> None:
    views = default_views(load_images("photographs"))
    steps = views_of.single_steps(views)
    chains = {name: [type(t).__name__ for t in views_of.one_by_one(v, any(v.mean)).transforms] for name, v in steps.items()}
    assert chains == {
        "crop and flip": ["RandomResizedCrop", "RandomHorizontalFlip"],
        "colour jitter": ["RandomApply"],
        "grayscale": ["RandomGrayscale"],
        "blur": ["RandomApply"],
        "tensor, normalise": ["ToTensor", "Normalize"],
    }
    whole = [type(t).__name__ for t in views_of.one_by_one(views).transforms]
    assert whole == [name for chain in chains.values() for name in chain]


def test_views_that_do_something_else_are_found_out() -> None:
    """What is timed has to do the same: a comparison with other views than torchvision's is not called equal."""
    images = load_images("photographs")
    views = default_views(images)
    same = views_of.agree(images.train[3], views, 600, seed=1)
    assert min(same.values()) > 1e-3

    class Brighter(Views):
        def __call__(self, images: torch.Tensor, generator: torch.Generator, times: int = 1) -> torch.Tensor:
            return (super().__call__(images, generator, times) * 1.1).clamp(0, 1)

    brighter = Brighter(**{name: getattr(views, name) for name in views.__dataclass_fields__})
    assert views_of.agree(images.train[3], brighter, 600, seed=1)["brightness"] < 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 4}, "at least 2 repeats and 8 pixels"),
        ({"repeats": 1}, "repeats = 1"),
        ({"batch": [0, 8]}, "batch: expected whole numbers from 1 to 1000000, got 0, 8"),
        ({"threads": [100000]}, "threads: expected whole numbers from 1 to"),
        ({"dataset": "digits"}, "'digits' has no colours; expected coloured images, such as photographs"),
        ({"device": "tpu"}, "expected auto, cpu or cuda"),
    ],
)
def test_bad_options_are_refused_before_anything_is_written(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        view_speed.run(str(tmp_path / "out"), **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
