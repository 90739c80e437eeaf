"""Deliberate mistakes in every rule, by family: the kind that people make. `tests/mutants.py` runs them."""

from mutations import contrastive, local, settling, top_down
from mutations.base import Mutant

MUTANTS: list[Mutant] = [
    *contrastive.CONTRASTIVE,
    *contrastive.PREDICTIONS,
    *contrastive.CLAPP,
    *contrastive.OPTIMAL,
    *local.INFONCE,
    *local.GOODNESS,
    *local.SCFF,
    *local.BARLOW,
    *local.VICREG,
    *local.LPL,
    *local.RPL,
    *local.MONO_FORWARD,
    *local.SOFTHEBB,
    *top_down.SUPERVISED,
    *top_down.FA,
    *top_down.DFA,
    *top_down.BLOCKS,
    *top_down.DUAL_PROPAGATION,
    *settling.PREDICTIVE_CODING,
    *settling.ERROR_OPTIMISED,
    *settling.DIRECT_PREDICTIVE,
]

PREFIXES: dict[str, tuple[str, ...]] = {
    "contrastive": ("clapp", "bp-clapp", "pc-clapp"),
    "predictions": ("clapp++_banded", "clapp++gap_low", "clapp++"),
    "clapp": ("clapp_", "clapp-s", "bp-hinge"),
    "optimal": ("clapp-optimal", "clapp++optimal"),
    "infonce": ("infonce", "bp-infonce"),
    "goodness": ("ff", "phyll", "bp-ff"),
    "scff": ("scff",),
    "barlow": ("barlow", "bp-barlow"),
    "vicreg": ("vicreg",),
    "lpl": ("lpl",),
    "rpl": ("rpl",),
    "mono-forward": ("mono",),
    "softhebb": ("softhebb",),
    "supervised and bp": ("bp_", "pc_gain"),
    "fa": ("fa",),
    "dfa": ("dfa",),
    "blocks": ("blocks",),
    "dual-prop": ("dual",),
    "pc": ("pc", "z-il", "ipc"),
    "epc": ("epc",),
    "dfa-pc": ("dfa_pc",),
}
"""How the names of the reference files of a family begin: these are looked at first."""
