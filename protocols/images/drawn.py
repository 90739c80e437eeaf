"""The charts of `image_benchmark`."""

from collections.abc import Sequence

import analysis
from protocols.images.readouts import TOGETHER


def charts(order: Sequence[str], pairs: Sequence[str]) -> list[analysis.Chart]:
    """Return the charts of methods in this order, and of the differences of these pairs, where there are some.

    Parameters
    ----------
    order : sequence of str
        Labels of the methods.
    pairs : sequence of str
        As `protocols.images.decisions.difference_records` names them.
    """
    interval = "bars: 95 % interval over seeds (Student's t)"
    drawn = [
        analysis.Chart(
            "Linear readout of all populations together",
            "method",
            "accuracy (%)",
            "",
            "test accuracy (%)",
            series="source",
            panel="data set",
            kind="points",
            data="together",
            errors=interval,
            text="Published figures (second-hand) are of the full network and 300 epochs: compare orders, not heights.",
        ),
        analysis.Chart(
            "Linear readout of each population",
            "population",
            "accuracy (%)",
            "population",
            "test accuracy (%)",
            series="method",
            panel="data set",
            data="layers",
            errors=interval,
            order=order,
        ),
        analysis.Chart(
            "What the representation is worth over learning",
            "epochs",
            "accuracy (%)",
            "epochs",
            "validation accuracy, all populations (%)",
            series="method",
            panel="data set",
            data="learning",
            where={"population": TOGETHER},
            errors=interval,
            order=order,
            text="Images set aside, read out with one penalty at all times; epoch 0 is the network before learning.",
        ),
        analysis.Chart(
            "Observers that still learn",
            "epochs",
            "active fraction",
            "epochs",
            "active fraction of rows",
            series="method",
            panel="population",
            data="active",
            y_range=(0.0, 1.05),
            errors=interval,
            order=order,
            text="With the hinge, a row whose scores are beyond the margin changes no synapse.",
        ),
    ]
    if pairs:
        drawn.insert(
            3,
            analysis.Chart(
                "What decides the claims, over learning",
                "share of training (%)",
                "difference (points)",
                "share of training (%)",
                "difference in validation accuracy (points)",
                series="pair",
                panel="data set",
                data="differences",
                levels={"no difference": 0.0},
                errors=interval,
                order=pairs,
                text="First method minus second, paired by seed; intervals are not corrected for the number of pairs.",
            ),
        )
    return drawn
