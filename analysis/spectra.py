"""The spectrum of weights: how many directions a pathway carries, and how strongly.

Of a pathway's matrix W (post, all presynaptic: a convolution's kernels are rows), with singular values ``s_1 >= s_2 >= ...``
and ``p_k = s_k / sum s``:

    spectral_norm         s_1
    effective_rank        exp(- sum p_k log p_k): the singular values as if equal (Roy & Vetterli 2007, EUSIPCO)
    stable_rank           |W|_F^2 / s_1^2 (Rudelson & Vershynin 2007, J. ACM 54, 21)
    participation_ratio   (sum s_k^2)^2 / sum s_k^4, of the variances

Weights drawn independently with standard deviation d have ``s_1`` near ``d (sqrt(post) + sqrt(pre))`` (Yin, Bai &
Krishnaiah 1988), given as ``spectral_norm_if_random`` for weights of the same variance: what is above has a direction of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from analysis.pathway_weights import Measures, RunWeights, over_pathways, pathway_weights
from neurossl.errors import OptionError


def weight_spectrum(tree: xr.DataTree, pathways: str | Sequence[str] | None = None, of: str = "weight") -> xr.Dataset:
    """Return the singular values of every snapshot and what they amount to.

    Parameters
    ----------
    tree : DataTree
        Of one run (`open_trajectory`) or of many.
    pathways : str or sequence of str, optional
        All recorded ones by default.
    of : {"weight", "change"}
        Of the weights, or of their change since the first snapshot.

    Returns
    -------
    Dataset
        ``singular_value`` (..., snapshot, pathway, component), descending, NaN beyond the smaller side of the matrix;
        ``spectral_norm``, ``effective_rank``, ``stable_rank``, ``participation_ratio``, ``spectral_norm_if_random`` (...,
        snapshot, pathway). Those that divide by the norm are NaN where it is 0.

    Raises
    ------
    TrajectoryError
        If no weights, not those of a pathway that is asked for, or only chosen synapses of it were recorded.
    OptionError
        If ``of`` is neither.

    Notes
    -----
    One snapshot is in memory at a time. A decomposition takes ``4 post pre min(post, pre)`` operations, and more. A
    pathway with local fields is taken as the table of its kernels, not as the matrix between the two maps.
    """
    if of not in ("weight", "change"):
        raise OptionError(f"of: expected 'weight' or 'change', got {of!r}")

    def measure(run: RunWeights) -> Measures:
        values: list[np.ndarray] = []
        rows: list[list[float]] = []
        for which in range(len(run.rows)):
            matrix = run.matrix(which, 0 if of == "change" else None)
            values.append(np.linalg.svd(matrix, compute_uv=False))
            rows.append([*_ranks(values[-1]), float(matrix.std() * (np.sqrt(matrix.shape[0]) + np.sqrt(matrix.shape[1])))])
        columns = dict(zip(_NAMES, np.array(rows).T, strict=True))
        moments = ("snapshot",)
        return {
            "singular_value": (("snapshot", "component"), np.array(values)),
            **{n: (moments, c) for n, c in columns.items()},
        }

    return over_pathways(pathway_weights(tree, pathways), measure, {"of": of})


_NAMES = ("spectral_norm", "effective_rank", "stable_rank", "participation_ratio", "spectral_norm_if_random")


def _ranks(values: np.ndarray) -> tuple[float, float, float, float]:
    """Return spectral norm, effective rank, stable rank and participation ratio of singular values."""
    largest = float(values[0])
    if not largest > 0:
        return largest, np.nan, np.nan, np.nan
    scaled = values / largest  # squares of tiny values would vanish
    shares = scaled / scaled.sum()
    shares = shares[shares > 0]
    energy = np.square(scaled)
    entropy = -float((shares * np.log(shares)).sum())
    return largest, float(np.exp(entropy)), float(energy.sum()), float(energy.sum() ** 2 / np.square(energy).sum())
