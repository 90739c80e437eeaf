"""How many random views per second, beside torchvision's transforms of single pictures?

SimCLR's augmentations with the parameters of arXiv 2601.21683: for many observers at once (`neurossl.stimuli.Views`), and,
as in the published code, picture by picture with PIL and torchvision in one process. Both see the same pictures in the same
run, in turns; a view is one augmented and normalised picture. Beforehand, many views of one picture by both are compared:
what is timed has to do the same.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Unpack

import torch

import analysis
from neurossl.progress import Progress
from neurossl.stimuli import default_views
from protocols.harness.experiment import Experiment
from protocols.harness.options import defaults
from protocols.harness.settings import settle
from protocols.harness.shared import Measured, reject_unknown
from protocols.harness.worker import computing_with
from protocols.speed.view_report import EVERYTHING, charts_of, drawn, record_of, sentences_of
from protocols.speed.views import Contest, agree, checked_sizes, coloured_images, single_steps

USUAL: dict[str, Any] = {"dataset": "photographs", "size": 32, "batch": (64, 128, 256, 512), "repeats": 9}
TINY: dict[str, Any] = {"size": 16, "batch": (8, 16), "repeats": 2}


@defaults(dataset=USUAL["dataset"])
def run(
    out: str,
    *,
    dataset: str = "photographs",
    data_dir: str | None = None,
    size: int | None = None,
    batch: Sequence[int] | None = None,
    threads: Sequence[int] | None = None,
    repeats: int | None = None,
    seed: int = 0,
    **common: Unpack[Measured],
) -> analysis.Results:
    """Measure how many random views are computed per second, beside torchvision.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    dataset : str
        In colour: photographs (embedded), cifar10, stl10, tiny_imagenet, folder:PATH or stream:PATH.
    data_dir : str, optional
        Where the data set is.
    size : int, optional
        Height and width of the views, pixels; 32 by default.
    batch : sequence of int, optional
        Views at a time; 64, 128, 256 and 512 by default.
    threads : sequence of int, optional
        Threads of torch; by default 1 and 2.
    repeats : int, optional
        Measurements of each, in turns; 9 by default.
    seed : int
        Of the views.
    **common
        See `protocols.harness.shared.Measured`; ours are computed on the device.

    Raises
    ------
    OptionError
        For bad options; nothing is written.
    """
    reject_unknown(common, Measured)
    setting = settle(out, "view_speed", common, {})
    usual = USUAL | (TINY if setting.tiny else {})
    size, repeats, batch, counts = checked_sizes(usual, size, repeats, batch, threads, setting.tiny)
    images = coloured_images(dataset, data_dir, size, max(batch), seed)
    views, middle, compared = default_views(images), sorted(batch)[len(batch) // 2], 100 if setting.tiny else 1500
    agreement = agree(images.train[0], views, compared, seed)
    contest = Contest(images.train, torch.device(setting.device), seed)
    settings = [(EVERYTHING, views, count, rows) for count in counts for rows in batch]
    settings += [(name, step, counts[0], middle) for name, step in single_steps(views).items()]
    options = {"dataset": dataset, "size": size, "batch": batch, "threads": counts, "repeats": repeats}
    options |= {"seed": seed, "device": torch.device(setting.device).type}
    table = []
    with (
        Experiment(setting, options, []) as experiment,
        Progress("text", "view_speed", len(settings), unit="setting") as bar,
    ):
        for step, of_step, count, rows in settings:
            with computing_with(count):
                measure = partial(contest.rates, of_step, rows, repeats, as_tensor=any(of_step.mean))
                rates = experiment.kept(f"measured/{step} {count} {rows}.json", measure)
            table.append(record_of(step, count, rows, rates))
            bar(len(table))
        results = analysis.Results(
            "view_speed",
            "How many random views per second?",
            table,
            sentences_of(table, agreement, compared, repeats),
            charts_of(table, middle),
            drawn(table),
            options=options,
            caption="median [lower and upper quartile] of the repeats",
        )
        return experiment.finish(results)
