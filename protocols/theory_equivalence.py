"""When is a local update equal to the backprop-derived one, and what is lost with each condition that does not hold?

Theorem 3.1 and figures 2, 3a and 4b of Wu et al. 2026 (arXiv 2601.21683). In a chain of linear populations without biases,
with orthonormal weights between populations of one size, the CLAPP++ update of every layer is the one that backprop derives
from the CLAPP++ loss of the top, provided that the predictions B of every layer are at the optimum of its own loss for the
batch. Each condition here keeps or breaks one of these; the feedforward weights never change, a batch is an event, and both
updates are proposed on the same activity, events and weights.

Differences from the published simulations: B is sought for every batch anew, by Newton's method instead of L-BFGS from where
the batch before has left it (the optimum is unique; after 1,000 evaluations L-BFGS is still up to 1e-4 away from it on the
digits); where B is random it is the same in all batches; crops are sampled bilinearly; intervals are Student's.
"""

import math
from functools import partial
from typing import Unpack

import analysis
from neurossl.errors import OptionError
from protocols.harness.checks import positive
from protocols.harness.experiment import Experiment
from protocols.harness.learning import about
from protocols.harness.options import defaults
from protocols.harness.settings import settle
from protocols.harness.shared import Shown, reject_unknown
from protocols.theory.comparing import Job, compare_updates_under
from protocols.theory.conditions import CONDITIONS, Setting
from protocols.theory.report import report

USUAL = {"dataset": "digits", "seeds": 1}


@defaults(**USUAL)
def run(
    out: str,
    *,
    part: str = "train",
    batches: int | None = None,
    observers: int | None = None,
    **common: Unpack[Shown],
) -> analysis.Results:
    """When is a local update equal to the backprop-derived one, and what does each broken condition cost?

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet, unless resuming.
    part : str
        train or test: which images are shown, the first of them in their order.
    batches : int, optional
        Number of batches; 32 by default, as published.
    observers : int, optional
        Images per batch; 32 by default.
    **common
        See `protocols.harness.shared.Shown`. Published is mnist; quarters of the images and crops of 16 x 16 are shown.
        With several seeds, intervals are over seeds instead of batches.

    Raises
    ------
    NeurosslError
        For bad options (nothing is written), or, with exit status 1, when a condition could not finish.
    """
    reject_unknown(common, Shown)
    if part not in ("train", "test"):
        raise OptionError(f"part: expected train or test, got {part!r}")
    shared = settle(out, "theory_equivalence", common, USUAL)
    images, tiny = shared.images, shared.tiny
    count = positive("batches", batches if batches is not None else shared.stored.get("batches", 2 if tiny else 32))
    shown = positive("observers", observers if observers is not None else 8 if tiny else 32)
    pixels = images.shape[0] * (images.shape[1] // 2) * (images.shape[2] // 2)
    if images.shape[1] % 2 or images.shape[2] % 2 or pixels < 32:
        raise OptionError(
            f"dataset {shared.dataset!r}: expected images with even sides of at least 12 pixels, got {images.shape}"
        )
    available = len(images.train if part == "train" else images.test)
    if shown * count > available or shown < 2:
        raise OptionError(
            f"observers and batches: expected at least 2 observers and {available} images at most, got {shown} x {count}"
        )
    grey = images.train.float() / 255
    setting = Setting(
        part=part,
        batches=count,
        observers=shown,
        mean=float(grey.mean()),
        std=float(grey.std()),
        width=32 if tiny else min(128, 2 ** int(math.log2(pixels))),
        channels=4 if tiny else 32,
        device=shared.device,
    )
    jobs = [Job(condition, seed, count) for condition in CONDITIONS for seed in shared.seeds]
    options = shared.options(**setting.__dict__)
    with Experiment(shared, options, jobs, "conditions") as experiment:
        compare = partial(compare_updates_under, folder=shared.out, setting=setting, images=images, about=about(shared))
        experiment.carry_out(compare, moments=count)
        return experiment.report(lambda comparison: report(comparison, options))
