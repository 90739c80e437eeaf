"""How many random views per second, beside torchvision's transforms of single pictures?

SimCLR's augmentations with the parameters of arXiv 2601.21683: for many observers at once (`neurossl.stimuli.Views`), and,
as in the published code, picture by picture with PIL and torchvision in one process. Both see the same pictures in the same
run, in turns; a view is one augmented and normalised picture. Beforehand, many views of one picture by both are compared:
what is timed has to do the same.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import transforms
from tqdm import tqdm

import analysis
from analysis.results import LOWER, MEDIAN, UPPER, Record, put_median
from neurossl.device import available_cores, choose_device
from neurossl.errors import OptionError
from neurossl.generators import Generators
from neurossl.stimuli import ImageSet, Views, default_views, load_images
from neurossl.stimuli.views import SIGMA
from protocols.harness.folder import finish, new_folder

THEIRS, OURS = "torchvision", "neurossl"
EVERYTHING = "everything"
FASTER = "times as fast"
RATES = {THEIRS: "views per second, torchvision", OURS: "views per second, neurossl"}
LEAST_SECONDS = 0.05
"""Between two looks at the clock."""


def run(
    out: str,
    *,
    dataset: str = "photographs",
    data_dir: str | None = None,
    size: int = 32,
    batch: Sequence[int] = (64, 128, 256, 512),
    threads: Sequence[int] | None = None,
    repeats: int = 9,
    seed: int = 0,
    device: str = "auto",
    tiny: bool = False,
) -> analysis.Results:
    """Measure how many random views are computed per second, beside torchvision.

    Parameters
    ----------
    out : str
        Folder of the results; must not hold anything yet.
    dataset : str
        In colour: photographs (embedded), cifar10, stl10, tiny_imagenet, folder:PATH or stream:PATH.
    data_dir : str, optional
        Where the data set is.
    size : int
        Height and width of the views, pixels.
    batch : sequence of int
        Views at a time.
    threads : sequence of int, optional
        Threads of torch; by default 1 and 2.
    repeats : int
        Measurements of each, in turns.
    seed : int
        Of the views.
    device : str
        auto, cpu or cuda: where ours are computed.
    tiny : bool
        A few seconds, for tests.

    Raises
    ------
    OptionError
        For bad options; nothing is written.
    """
    cores = available_cores()
    if tiny:
        size, batch, threads, repeats = 16, (8, 16), (1,), 2
    counts = list(threads) if threads is not None else [n for n in (1, 2) if n <= cores]
    for name, numbers, most in (("size", [size], 4096), ("batch", batch, 10**6), ("threads", counts, cores)):
        if not numbers or not all(1 <= n <= most for n in numbers):
            given = ", ".join(map(str, numbers)) or "none"
            raise OptionError(f"{name}: expected whole numbers from 1 to {most}, got {given}")
    if repeats < 2 or size < 8:
        raise OptionError(f"expected at least 2 repeats and 8 pixels, got repeats = {repeats} and size = {size}")
    where = choose_device(device)
    images = _images(dataset, data_dir, size, max(batch), seed)
    folder = Path(out)
    new_folder(folder)
    views, middle, compared = default_views(images), sorted(batch)[len(batch) // 2], 100 if tiny else 1500
    agreement = agree(images.train[0], views, compared, seed)
    contest = Contest(images.train, where, seed)
    settings = [(EVERYTHING, views, count, rows) for count in counts for rows in batch]
    settings += [(name, step, counts[0], middle) for name, step in single_steps(views).items()]
    table = []
    for step, of_step, count, rows in tqdm(settings, "view_speed", unit="setting"):
        with _threads(count):
            rates = contest.rates(of_step, rows, repeats, as_tensor=any(of_step.mean))
        table.append(_record(step, count, rows, rates))
    options = {"dataset": dataset, "size": size, "batch": list(batch), "threads": counts, "repeats": repeats}
    results = analysis.Results(
        "view_speed",
        "How many random views per second?",
        table,
        _sentences(table, agreement, compared, repeats),
        _charts(table, middle),
        _drawn(table),
        options={**options, "seed": seed, "device": where.type},
    )
    return finish(folder, results)


def one_by_one(views: Views, as_tensor: bool = True) -> transforms.Compose:
    """Return torchvision's transforms of a PIL picture with the parameters of views."""
    chain: list[Any] = []
    if views.crop_scale != (1.0, 1.0):
        chain.append(transforms.RandomResizedCrop(views.size, views.crop_scale))
    if views.flip:
        chain.append(transforms.RandomHorizontalFlip(views.flip))
    if views.jitter:
        jitter = transforms.ColorJitter(views.brightness, views.contrast, views.saturation, views.hue)
        chain.append(transforms.RandomApply([jitter], views.jitter))
    if views.grayscale:
        chain.append(transforms.RandomGrayscale(views.grayscale))
    if views.blur:
        chain.append(transforms.RandomApply([transforms.GaussianBlur(views.blur_kernel, SIGMA)], views.blur))
    if as_tensor:
        chain += [transforms.ToTensor(), transforms.Normalize(views.mean, views.std)]
    return transforms.Compose(chain)


def single_steps(views: Views) -> dict[str, Views]:
    """Return views of which each does one thing alone."""
    v = views
    return {
        "crop and flip": Views(v.size, crop_scale=v.crop_scale, flip=v.flip),
        "colour jitter": replace(v, crop_scale=(1.0, 1.0), flip=0.0, grayscale=0.0, blur=0.0, mean=(0.0,), std=(1.0,)),
        "grayscale": Views(v.size, grayscale=v.grayscale),
        "blur": Views(v.size, blur=v.blur, blur_kernel=v.blur_kernel),
        "tensor, normalise": Views(v.size, mean=v.mean, std=v.std),
    }


class Contest:
    """The same pictures for both: uint8 on the device, and in PIL's form.

    Parameters
    ----------
    pixels : Tensor of uint8, (images, 3, size, size)
    device : torch.device
    seed : int
    """

    def __init__(self, pixels: Tensor, device: torch.device, seed: int) -> None:
        self.pixels = pixels.to(device)
        self.pictures = [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).numpy()]
        self.seed = seed

    def rates(self, views: Views, rows: int, repeats: int, as_tensor: bool = True) -> dict[str, list[float]]:
        """Return views per second of both, measured in turns after one turn that does not count."""
        transform = one_by_one(views, as_tensor)
        generator = Generators(self.seed)["stimuli/view_speed"]
        pixels, pictures = self.pixels[:rows].contiguous(), self.pictures[:rows]

        def theirs() -> None:
            shown = [transform(picture) for picture in pictures]
            if as_tensor:
                torch.stack(shown)

        def ours() -> None:
            views(pixels, generator)
            if pixels.device.type == "cuda":
                torch.cuda.synchronize(pixels.device)

        turns = [{THEIRS: _rate(theirs, rows), OURS: _rate(ours, rows)} for _ in range(repeats + 1)][1:]
        return {who: [turn[who] for turn in turns] for who in RATES}


def _rate(compute: Callable[[], None], rows: int) -> float:
    begun, done = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begun) < LEAST_SECONDS:
        compute()
        done += rows
    return done / elapsed


def agree(picture: Tensor, views: Views, count: int, seed: int) -> dict[str, float]:
    """Return how probable differences as large as those between both are by chance (two-sample Kolmogorov-Smirnov)."""
    plain = replace(views, mean=(0.0,) * 3, std=(1.0,) * 3)
    pil, transform = Image.fromarray(picture.permute(1, 2, 0).numpy()), one_by_one(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        theirs = torch.stack([transform(pil) for _ in range(count)])
    ours = plain(picture.expand(count, -1, -1, -1), Generators(seed)["stimuli/agreement"])
    looks: dict[str, Callable[[Tensor], Tensor]] = {
        "brightness": lambda shown: shown.mean((1, 2, 3)),
        "contrast": lambda shown: shown.std((1, 2, 3)),
        "saturation": lambda shown: (shown.amax(1) - shown.amin(1)).mean((1, 2)),
    }
    return {name: float(ks_2samp(look(ours).numpy(), look(theirs).numpy()).pvalue) for name, look in looks.items()}


def _images(dataset: str, data_dir: str | None, size: int, count: int, seed: int) -> ImageSet:
    """Return coloured images of this size, as many as the largest batch shows; fewer images are shown again."""
    images = load_images(dataset, data_dir=data_dir, size=size)
    if images.shape[0] != 3:
        raise OptionError(f"dataset {dataset!r} has no colours; expected coloured images, such as photographs")
    chosen = torch.randperm(len(images.train), generator=Generators(seed)["images"]).repeat(-(-count // len(images.train)))
    return replace(images, train=images.train[chosen[:count]], train_labels=images.train_labels[chosen[:count]])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def _record(step: str, threads: int, rows: int, rates: Mapping[str, Sequence[float]]) -> Record:
    record: Record = {"step": step, "threads": threads, "views at a time": rows}
    for who, column in RATES.items():
        put_median(record, column, rates[who])
    return put_median(record, FASTER, np.array(rates[OURS]) / np.array(rates[THEIRS]))


def _drawn(table: Sequence[Record]) -> dict[str, list[Record]]:
    """Return what the charts draw: a record per curve and place."""
    rates, ratios, steps = [], [], []
    for record in table:
        threads = f"{record['threads']} thread" + "s" * (record["threads"] > 1)
        place = {"views at a time": record["views at a time"], "threads": threads}
        found = {who: {s: record[column + s] for s in (MEDIAN, LOWER, UPPER)} for who, column in RATES.items()}
        if record["step"] == EVERYTHING:
            for who, rate in found.items():
                rates.append({**place, "series": f"{who}, {threads}", **{f"rate{s}": rate[s] for s in rate}})
            ratios.append({**place, **{f"ratio{s}": record[FASTER + s] for s in (MEDIAN, LOWER, UPPER)}})
        else:
            for who, rate in found.items():
                cost = {MEDIAN: 1e6 / rate[MEDIAN], LOWER: 1e6 / rate[UPPER], UPPER: 1e6 / rate[LOWER]}
                steps.append({"step": record["step"], "who": who, **{f"microseconds{s}": cost[s] for s in cost}})
    return {"rates": rates, "ratios": ratios, "steps": steps}


def _charts(table: Sequence[Record], middle: int) -> list[analysis.Chart]:
    highest = max(record[FASTER + UPPER] for record in table if record["step"] == EVERYTHING)
    bars = "medians; bars: quartiles of repeated measurements"
    return [
        analysis.Chart(
            "Views per second", "views at a time", "rate", "views at a time", "views per second", series="series",
            data="rates", log="xy", errors=bars,
        ),
        analysis.Chart(
            "How many times as fast as torchvision", "views at a time", "ratio", "views at a time",
            "views per second, relative to torchvision", series="threads", data="ratios", log="x",
            levels={"20 times": 20.0}, y_range=(0.0, 1.15 * max(20.0, highest)), errors=bars,
        ),
        analysis.Chart(
            f"What a view costs, step by step ({middle} at a time)", "step", "microseconds", "",
            "microseconds per view", series="who", data="steps", kind="points", log="y", errors=bars,
            text="Each step alone. Ours contain the conversion of the picture to floating point and a copy of the result.",
        ),
    ]  # fmt: skip


def _sentences(table: Sequence[Record], agreement: Mapping[str, float], count: int, repeats: int) -> list[str]:
    whole = sorted((r for r in table if r["step"] == EVERYTHING), key=lambda r: r[FASTER + MEDIAN])
    said = []
    for what, record in (("least", whole[0]), ("most", whole[-1])):
        ours, theirs = (record[RATES[who] + MEDIAN] for who in (OURS, THEIRS))
        said.append(
            f"The {what}: with {record['views at a time']} views at a time and torch on {record['threads']} thread(s), "
            f"{ours:,.0f} views per second against torchvision's {theirs:,.0f}, {record[FASTER + MEDIAN]:.1f} times as many "
            f"(median of {repeats} turns, quartiles {record[FASTER + LOWER]:.1f} and {record[FASTER + UPPER]:.1f})."
        )
    least = min(agreement.values())
    verdict = "do not differ more than by chance" if least > 1e-3 else "DIFFER, so the speeds compare different things"
    looks = f"{', '.join(agreement)} (Kolmogorov-Smirnov, smallest p {least:.2g})"
    return [*said, f"{count:,} views of one picture by each {verdict} in {looks}."]
