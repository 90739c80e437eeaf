"""Representation quality: what simple readouts find in every population."""

from collections.abc import Mapping

import torch
from torch import Tensor

from analysis.probes import linear_probe, nearest_neighbour_probe
from neurossl.feedback import Pool, pooled
from neurossl.network import Network
from neurossl.simulation import Simulation
from neurossl.stimuli import ImageSet, Views, write_label


class Probes:
    """A linear and a nearest-neighbour readout per population, on fixed views of training and test images.

    The readouts learn from views of training images and are scored on views of test images; the raw pixels (the input
    population) are read out as well, once.

    Parameters
    ----------
    images : ImageSet
    views : Views
    generator : torch.Generator
        Draws the views, once.
    repeats : (int, int)
        Views per training and test image.
    most : (int, int)
        Most training and test images, balanced over classes.
    neutral : bool
        Write the neutral label into every image (forward-forward with labels).
    """

    def __init__(
        self,
        images: ImageSet,
        views: Views,
        generator: torch.Generator,
        repeats: tuple[int, int] = (2, 4),
        most: tuple[int, int] = (5000, 2000),
        neutral: bool = False,
    ) -> None:
        chosen = images.limited(min(most[0], len(images.train)), min(most[1], len(images.test)), generator)
        self.train = torch.cat([views(chosen.train, generator) for _ in range(repeats[0])])
        self.test = torch.cat([views(chosen.test, generator) for _ in range(repeats[1])])
        self.train_labels = chosen.train_labels.repeat(repeats[0]).numpy()
        self.test_labels = chosen.test_labels.repeat(repeats[1]).numpy()
        self.stimuli = (self.train, self.test)
        if neutral:
            classes = len(images.classes)
            self.stimuli = (write_label(self.train, None, classes), write_label(self.test, None, classes))
        self._pixels: dict[str, float] | None = None

    def __call__(self, simulation: Simulation) -> Mapping[str, Mapping[str, float]]:
        """Return the accuracies of all populations below the readout."""
        network = simulation.network
        read = [name for name in network.order if name != "readout"]
        train, test = (population_features(network, stimulus, read) for stimulus in self.stimuli)
        found: dict[str, Mapping[str, float]] = {name: self._read_out(train[name], test[name]) for name in read}
        if self._pixels is None:
            self._pixels = self._read_out(self.train.flatten(1), self.test.flatten(1))
            found[network.input.name] = self._pixels
        return found

    def _read_out(self, train: Tensor, test: Tensor) -> dict[str, float]:
        data = train.numpy(), self.train_labels, test.numpy(), self.test_labels
        neighbours = min(5, len(train))
        return {"probe_accuracy": linear_probe(*data), "knn_accuracy": nearest_neighbour_probe(*data, neighbours)}


@torch.no_grad()
def population_features(
    network: Network,
    stimulus: Tensor,
    populations: list[str],
    rows: int = 512,
    kernels: Mapping[str, Pool] | None = None,
) -> dict[str, Tensor]:
    """Return the activity of populations on the host, flat; maps are averaged to at most 2x2 cells.

    Parameters
    ----------
    network : Network
    stimulus : Tensor, (images, *input shape)
    populations : list of str
    rows : int
        Images per sweep.
    kernels : mapping of str to int, "global" or None, optional
        Of the average pooling of every population, instead.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in populations}
    for batch in stimulus.split(rows):
        activity = network.sweep(batch.to(network.device, network.dtype))
        for name in populations:
            z = activity.output[name]
            if kernels is not None:
                z = pooled(z, kernels[name])
            elif z.ndim == 4:
                z = torch.nn.functional.adaptive_avg_pool2d(z, min(2, z.shape[2]))
            parts[name].append(z.flatten(1).float().cpu())
    return {name: torch.cat(batches) for name, batches in parts.items()}
