"""Published figures that the table of `image_benchmark` stands beside, and the setting in which they were measured.

Source: Wu et al. 2026, "Can Local Learning Match Self-Supervised Backpropagation?" (arXiv 2601.21683), **second-hand**: from
a note on the paper, whose tables could not be read here, and from the words of a re-implementation; one seed each. Settings
are those of the released code. Top-1 accuracy, per cent, of a linear readout of all six layers of the full network.
"""

LINEAR_PROBE: dict[str, dict[str, float]] = {
    "cifar10": {
        "bp-clapp++": 80.49,
        "bp-infonce": 80.69,
        "clapp++": 80.51,
        "clapp++dfb": 80.65,
        "clapp++both": 81.18,
        "clapp++gap": 73.21,
        "scff": 80.60,
    },
    "stl10": {
        "bp-clapp++": 80.36,
        "bp-infonce": 81.97,
        "clapp": 73.6,
        "clapp++": 78.66,
        "clapp++dfb": 79.38,
        "clapp++both": 79.62,
        "clapp++gap": 75.10,
        "scff": 77.14,
    },
    "tiny_imagenet": {
        "bp-clapp++": 37.55,
        "bp-infonce": 36.78,
        "clapp++": 36.63,
        "clapp++dfb": 36.70,
        "clapp++both": 37.78,
        "scff": 35.67,
    },
}
"""Data set -> rule -> per cent."""

FROM_A_REIMPLEMENTATION = {("cifar10", "clapp++gap")}
"""Figures that are not even in the note, but in the words of a re-implementation."""

MARGIN = 1.1
"""Points by which two figures of 80 % may differ by the choice of 10,000 test images alone (half of a 95 % interval):
published figures that are closer have no order."""

NETWORK, EPOCHS, OBSERVERS, RATE = "vgg6", 300, 32, 2e-4
"""What all figures of CLAPP++ were measured with."""

TRAINING_IMAGES = {"cifar10": 50_000, "stl10": 100_000, "tiny_imagenet": 100_000}
"""Images that the networks learned from; of STL-10 the unlabelled ones."""

IMAGE_SIZE = {"cifar10": 32, "stl10": 96, "tiny_imagenet": 64}

WEIGHT_DECAY = {"tiny_imagenet": 1e-5}
"""Of the optimisers of network and readout, where it was not 0."""

READOUT_EPOCHS = 300

READOUT = "readouts of its own: Adam for 300 epochs on random crops, and the best epoch on the test images"


def source(dataset: str, rule: str) -> str | None:
    """Return where the published figure of a rule is from; None where there is none."""
    known = known_as(dataset)
    if rule not in LINEAR_PROBE.get(known, {}):
        return None
    found_in = "a re-implementation" if (known, rule) in FROM_A_REIMPLEMENTATION else "a note on the paper"
    return f"second-hand, {found_in}"


def weight_decay(dataset: str) -> float:
    """Return the published weight decay of a data set."""
    return WEIGHT_DECAY.get(known_as(dataset), 0.0)


def known_as(name: str) -> str:
    """Return the name under which figures of a data set are published: ``folder:CIFAR10`` is cifar10."""
    plain = name.rpartition(":")[2].lower().replace("-", "").replace("_", "")
    return next((known for known in LINEAR_PROBE if plain.startswith(known.replace("_", ""))), name)
