"""What a simple readout finds in a representation: linear and nearest-neighbour probes.

Features are standardised with the mean and standard deviation of the training features. An accuracy is the mean of what the
readout gets right, stimulus by stimulus; tests that pair rules by stimulus (McNemar's) need the latter.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from neurossl.errors import OptionError
from neurossl.surroundings import imported
from neurossl.text import one_line


def linear_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    penalty: float = 10.0,
    iterations: int = 100,
) -> float:
    """Return the test accuracy of a multinomial logistic regression (scikit-learn): the mean of `linear_probe_correctness`.

    Parameters
    ----------
    train_features, test_features : array, (samples, features)
        Or anything that numpy makes one of, such as a torch tensor in memory without a gradient.
    train_labels, test_labels : array of int, (samples,)
        The same.
    penalty : float
        Weight of the squared norm (1/C). 10 was best or as good as 1 and 100 on raw pixels and on random features of the
        moved digits.
    iterations : int
        Of L-BFGS, at most.

    Raises
    ------
    OptionError
        If sizes do not match, features are not finite, or something is no array.
    """
    features = train_features, train_labels, test_features, test_labels
    return float(linear_probe_correctness(*features, penalty, iterations).mean())


def linear_probe_correctness(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    penalty: float = 10.0,
    iterations: int = 100,
) -> np.ndarray:
    """Return which test samples a multinomial logistic regression names correctly, (samples,) of bool.

    Parameters
    ----------
    train_features, test_features, train_labels, test_labels, penalty, iterations
        As for `linear_probe`.

    Raises
    ------
    OptionError
        As `linear_probe` does.
    """
    logistic = imported("sklearn.linear_model").LogisticRegression
    unconverged = imported("sklearn.exceptions").ConvergenceWarning
    data = _Split(train_features, train_labels, test_features, test_labels)
    readout = logistic(C=1 / penalty, max_iter=iterations, tol=1e-3)
    with warnings.catch_warnings():
        # Stopping early is part of the definition of this readout.
        warnings.simplefilter("ignore", unconverged)
        readout.fit(data.train, data.train_labels)
    return np.asarray(readout.predict(data.test) == data.test_labels)


def nearest_neighbour_probe(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    neighbours: int = 5,
) -> float:
    """Return the test accuracy of the majority among the nearest training samples (scikit-learn, Euclidean distance).

    It is the mean of `nearest_neighbour_correctness`.

    Parameters
    ----------
    train_features, test_features : array, (samples, features)
        Or anything that numpy makes one of, such as a torch tensor in memory without a gradient.
    train_labels, test_labels : array of int, (samples,)
        The same.
    neighbours : int

    Raises
    ------
    OptionError
        If sizes do not match, features are not finite, something is no array, or there are fewer samples than neighbours.
    """
    features = train_features, train_labels, test_features, test_labels
    return float(nearest_neighbour_correctness(*features, neighbours).mean())


def nearest_neighbour_correctness(
    train_features: ArrayLike,
    train_labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    neighbours: int = 5,
) -> np.ndarray:
    """Return which test samples the majority among the nearest training samples names correctly, (samples,) of bool.

    Parameters
    ----------
    train_features, test_features, train_labels, test_labels, neighbours
        As for `nearest_neighbour_probe`.

    Raises
    ------
    OptionError
        As `nearest_neighbour_probe` does.
    """
    nearest = imported("sklearn.neighbors").KNeighborsClassifier
    data = _Split(train_features, train_labels, test_features, test_labels)
    if not 1 <= neighbours <= len(data.train):
        raise OptionError(f"neighbours: expected 1 to {len(data.train)} (the training samples), got {neighbours}")
    readout = nearest(neighbours, algorithm="brute").fit(data.train, data.train_labels)
    return np.asarray(readout.predict(data.test) == data.test_labels)


class _Split:
    """Checked features of both parts with mean 0 and standard deviation 1 (float32), and their labels."""

    def __init__(self, train: Any, train_labels: Any, test: Any, test_labels: Any) -> None:
        train, self.train_labels = _part("training", train, train_labels)
        test, self.test_labels = _part("test", test, test_labels)
        if train.shape[1] != test.shape[1]:
            raise OptionError(f"probe: {train.shape[1]} training features, but {test.shape[1]} test features")
        if len(np.unique(self.train_labels)) < 2:
            raise OptionError("probe: training labels must be of at least two classes")
        mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
        scale = np.where(deviation > 1e-8, deviation, 1)
        self.train = ((train - mean) / scale).astype(np.float32)
        self.test = ((test - mean) / scale).astype(np.float32)


def _part(name: str, features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return features (samples, features) and labels (samples,) of one part as arrays."""
    features, labels = _array(f"{name} features", features), _array(f"{name} labels", labels)
    if features.dtype.kind not in "fiub":
        raise OptionError(f"probe: expected {name} features that are real numbers, got {features.dtype}")
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels) or not len(features):
        raise OptionError(
            f"probe: expected {name} features (samples, features) with one label each, got {features.shape} features "
            f"and {labels.shape} labels"
        )
    if not np.isfinite(features).all():
        raise OptionError(f"probe: {name} features hold NaN or infinity")
    return features, labels


def _array(name: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # tensors on a GPU, with a gradient, of another number type
        raise OptionError(f"probe: {name} cannot be made an array: {one_line(error)}") from None
