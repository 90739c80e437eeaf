"""Charts of `protocols.streaming_fixations`."""

from analysis.results import Chart


def _score_chart(population: str) -> Chart:
    return Chart(
        f"Score of single fixations over life, at {population}",
        "time (s)",
        "score",
        "biological time (s)",
        "score u",
        series="event",
        panel="condition",
        data="scores",
        where={"population": population},
        levels={"margin of the hinge for fixations": 1.0, "for saccades": -1.0},
        errors="bars: 95 % interval over animals",
    )


def _synapse_chart(condition: str) -> Chart:
    return Chart(
        f"What one synapse sees, {condition}",
        "time (s)",
        "value",
        "biological time (s)",
        "value",
        series="object",
        panel="factor",
        stacked=True,
        data="synapse",
        where={"condition": condition},
        text="Three objects, a saccade between them. The proposed change is the product of the four factors above it; the "
        "weight follows through its optimiser.",
    )


CHARTS = (
    _score_chart("V1"),
    _score_chart("V4"),
    Chart(
        "How well the score separates fixations on new objects from saccades",
        "time (s)",
        "separation",
        "biological time (s)",
        "P(score after fixation > after saccade)",
        series="condition",
        panel="population",
        data="separation",
        levels={"chance": 0.5},
        errors="bars: 95 % interval over animals",
    ),
    _synapse_chart("lateral context"),
    _synapse_chart("direct feedback"),
)
