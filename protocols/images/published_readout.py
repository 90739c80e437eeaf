"""The readout of the published figures: one linear layer on all populations, in its best epoch on the test images.

Cross-entropy, Adam with a rate of 1e-3, batches of 32, a new random crop (area 0.08 to 1) and mirror image of every training
image in every epoch, features as they are (arXiv 2601.21683, released code). It reports the largest test accuracy of all
epochs: the test images choose the epoch, so that this figure is optimistic and serves no choice here.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from neurossl.stimuli import Views

RATE, BATCH = 1e-3, 32
CROPS = (0.08, 1.0)


def crops(views: Views) -> Views:
    """Return the random crops and mirror images of the published readout, normalised as the network's own views are."""
    same_colours = replace(views, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, grayscale=0.0, blur=0.0)
    return replace(same_colours, crop_scale=CROPS)


def accuracy_by_epoch(
    features: Callable[[], Tensor],
    labels: Tensor,
    tested: Tensor,
    tested_labels: Tensor,
    epochs: int,
    generator: torch.Generator,
    weight_decay: float = 0.0,
) -> list[float]:
    """Return the test accuracy after every epoch.

    Parameters
    ----------
    features : callable
        Returns the features of new crops of the training images, (images, values); called once per epoch.
    labels : Tensor of int64, (images,)
    tested : Tensor, (test images, values)
    tested_labels : Tensor of int64, (test images,)
    epochs : int
    generator : torch.Generator
        Of initial weights and of the order of the images.
    weight_decay : float
        Of Adam.
    """
    classes, values = int(labels.max()) + 1, tested.shape[1]
    bound = values**-0.5
    weight, bias = (
        torch.empty(shape).uniform_(-bound, bound, generator=generator).requires_grad_()
        for shape in ((classes, values), (classes,))
    )
    adam = torch.optim.Adam([weight, bias], lr=RATE, weight_decay=weight_decay)
    onehot = torch.eye(classes)
    found = []
    for _ in range(epochs):
        seen = features()
        for rows in torch.randperm(len(seen), generator=generator).split(BATCH):
            with torch.no_grad():
                error = (seen[rows] @ weight.T + bias).softmax(1) - onehot[labels[rows]]
                weight.grad, bias.grad = error.T @ seen[rows] / len(rows), error.mean(0)
            adam.step()
        with torch.no_grad():
            found.append(float(((tested @ weight.T + bias).argmax(1) == tested_labels).double().mean()))
    return found
