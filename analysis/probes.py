"""What a simple readout finds in a representation: linear and nearest-neighbour probes.

Features are standardised with the mean and standard deviation of the training features.
"""

import warnings

import numpy as np

from neurossl.errors import OptionError


def linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    penalty: float = 10.0,
    iterations: int = 100,
) -> float:
    """Return the test accuracy of a multinomial logistic regression (scikit-learn).

    Parameters
    ----------
    train_features, test_features : array, (samples, features)
    train_labels, test_labels : array of int, (samples,)
    penalty : float
        Weight of the squared norm (1/C). 10 was best or as good as 1 and 100 on raw pixels and on random features of the
        moved digits.
    iterations : int
        Of L-BFGS, at most.

    Raises
    ------
    OptionError
        If sizes do not match or features are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    train, test = _standardised(train_features, train_labels, test_features, test_labels)
    readout = LogisticRegression(C=1 / penalty, max_iter=iterations, tol=1e-3)
    with warnings.catch_warnings():
        # Stopping early is part of the definition of this readout.
        warnings.simplefilter("ignore", ConvergenceWarning)
        readout.fit(train, train_labels)
    return float(readout.score(test, test_labels))


def nearest_neighbour_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    neighbours: int = 5,
) -> float:
    """Return the test accuracy of the majority among the nearest training samples (scikit-learn, Euclidean distance).

    Parameters
    ----------
    train_features, test_features : array, (samples, features)
    train_labels, test_labels : array of int, (samples,)
    neighbours : int

    Raises
    ------
    OptionError
        If sizes do not match, features are not finite, or there are fewer samples than neighbours.
    """
    from sklearn.neighbors import KNeighborsClassifier

    train, test = _standardised(train_features, train_labels, test_features, test_labels)
    if not 1 <= neighbours <= len(train):
        raise OptionError(f"neighbours: expected 1 to {len(train)} (the training samples), got {neighbours}")
    readout = KNeighborsClassifier(neighbours, algorithm="brute").fit(train, train_labels)
    return float(readout.score(test, test_labels))


def _standardised(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return checked features with mean 0 and standard deviation 1, float32."""
    for name, features, labels in (("training", train, train_labels), ("test", test, test_labels)):
        if features.ndim != 2 or len(features) != len(labels) or not len(features):
            raise OptionError(
                f"probe: expected {name} features (samples, features) with one label each, got {features.shape} features "
                f"and {len(labels)} labels"
            )
        if not np.isfinite(features).all():
            raise OptionError(f"probe: {name} features hold NaN or infinity")
    if train.shape[1] != test.shape[1]:
        raise OptionError(f"probe: {train.shape[1]} training features, but {test.shape[1]} test features")
    if len(np.unique(train_labels)) < 2:
        raise OptionError("probe: training labels must be of at least two classes")
    mean, deviation = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    scale = np.where(deviation > 1e-8, deviation, 1)
    return ((train - mean) / scale).astype(np.float32), ((test - mean) / scale).astype(np.float32)
