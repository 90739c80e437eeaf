"""What a rule can need beyond the synapse: the words of the ledger."""

from collections.abc import Iterable

from neurossl.errors import OptionError

NEEDS: dict[str, str] = {
    "neuromodulator": "one scalar per observer, broadcast to the whole population",
    "lateral context": "the population's own response to the previous fixation, through its lateral pathway",
    "top-down activity": "the activity of a higher population, through a direct feedback pathway",
    "other observers": "responses of other observers at the same moment",
    "other populations": "the activity of populations that send no pathway here",
    "stimulus": "the stimulus itself, at a population that the input population does not project to",
    "phases": "a clock that says which of two phases it is",
    "label in the stimulus": "an image with its name written into it",
    "target": "the name of the object",
    "broadcast error": "the error vector of the top population, through a direct feedback pathway",
    "layerwise error": "the error of the next population, through a feedback pathway of its own",
    "weight transport": "the weights of another pathway, transposed",
    "settling": "a period of relaxation before learning, with error neurons",
    "activity held": "the forward activity, held until feedback arrives",
}
"""What a rule can need beyond presynaptic activity, postsynaptic gate, own weights, own traces and own feedback synapses."""

SEVERAL = frozenset({"other populations", "layerwise error", "weight transport", "settling"})
"""Needs with which a rule handles several populations at once."""


def known_needs(needs: Iterable[str], rule: str) -> frozenset[str]:
    """Return the needs of a rule.

    Raises
    ------
    OptionError
        If one of them does not exist; lists those that do.
    """
    if isinstance(needs, str):
        raise OptionError(f"rule {rule!r}: needs must be a set of words, got the word {needs!r}: write {{{needs!r}}}")
    declared = frozenset(needs)
    unknown = sorted(map(str, declared - set(NEEDS)))
    if unknown:
        raise OptionError(f"rule {rule!r} needs {unknown[0]!r}, which is not one of: {', '.join(NEEDS)}")
    return declared
