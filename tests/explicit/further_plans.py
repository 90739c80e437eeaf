"""The reference files of the rules that the field compares (statistics over views, other transports): one plan each."""

from __future__ import annotations

from . import (
    blocks,
    competition,
    direct_predictive,
    dual_propagation,
    error_optimised,
    learned_feedback,
    local_targets,
    predicting,
    statistics,
)
from .cases import Plan, Rule, draw_labels
from .further_networks import (
    averaging,
    chain,
    classes,
    dense,
    four,
    gained_labels,
    gained_pairs,
    pairs,
    saccades,
    skipping,
    stimuli,
)

RULES: dict[str, type[Rule]] = (
    statistics.RULES
    | predicting.RULES
    | competition.RULES
    | local_targets.RULES
    | learned_feedback.RULES
    | dual_propagation.RULES
    | error_optimised.RULES
    | blocks.RULES
    | direct_predictive.RULES
)


CASES = [
    Plan("barlow_local_dense", "barlow-local", {}, dense, pairs, 100, 1 / 32),
    Plan("barlow_local_redundancy", "barlow-local", {"redundancy": 0.25}, dense, pairs, 101, 0.1),
    Plan("barlow_local_map", "barlow-local", {}, lambda: chain("tanh", 5), pairs, 102, 0.05),
    Plan("vicreg_local_dense", "vicreg-local", {}, dense, pairs, 110, 1 / 64, 1.5),
    Plan(
        "vicreg_local_weighted",
        "vicreg-local",
        {"invariance": 4.0, "variance": 9.0, "covariance": 6.0},
        dense,
        pairs,
        111,
        1 / 32,
        1.5,
    ),
    Plan("vicreg_local_map", "vicreg-local", {}, lambda: chain("relu", 5), pairs, 112, 1 / 128, 1.8),
    Plan("lpl_dense", "lpl", {}, dense, pairs, 120, 0.1),
    Plan("lpl_weighted", "lpl", {"pull": 2.0, "push": 0.5, "decorrelation": 3.0}, dense, pairs, 121, 0.1),
    Plan("lpl_map", "lpl", {}, lambda: chain("tanh", 5), pairs, 122, 0.1),
    Plan("rpl_dense", "rpl", {}, dense, pairs, 130, 0.1),
    Plan("rpl_map", "rpl", {}, lambda: chain("tanh", 5), pairs, 131, 1 / 32),
    Plan("rpl_gain", "rpl", {}, dense, gained_pairs, 132, 0.1),
    Plan("softhebb_dense", "softhebb", {}, dense, stimuli, 140),
    Plan("softhebb_constant_rate", "softhebb", {"adaptive": False}, dense, stimuli, 141),
    Plan("softhebb_temperature", "softhebb", {"temperature": 2.0}, dense, stimuli, 142),
    Plan("softhebb_map", "softhebb", {}, lambda: chain("relu", 5), stimuli, 143),
    Plan(
        "softhebb_map_constant_rate", "softhebb", {"temperature": 2.0, "adaptive": False}, lambda: chain(None), stimuli, 144
    ),
    Plan("mono_forward_dense", "mono-forward", {}, classes, draw_labels, 150),
    Plan("mono_forward_map", "mono-forward", {}, lambda: chain("linear"), draw_labels, 151, 0.25),
    Plan("mono_forward_gain", "mono-forward", {}, classes, gained_labels, 152),
    Plan("fa_sign_dense", "fa-sign", {}, classes, draw_labels, 160),
    Plan("fa_sign_map", "fa-sign", {}, lambda: chain("linear"), draw_labels, 161),
    Plan("fa_kp_dense", "fa-kp", {}, classes, draw_labels, 162),
    Plan("fa_kp_map", "fa-kp", {}, averaging, draw_labels, 163),
    Plan("fa_kp_skip", "fa-kp", {}, skipping, draw_labels, 164),
    Plan("dual_prop_dense", "dual-prop", {}, classes, draw_labels, 170),
    Plan("dual_prop_small_beta", "dual-prop", {"beta": 0.1}, classes, draw_labels, 171),
    Plan("dual_prop_map", "dual-prop", {}, averaging, draw_labels, 172),
    Plan("dual_prop_skip", "dual-prop", {}, skipping, draw_labels, 173),
    Plan("epc_one_step", "epc", {"steps": 1, "rate": 0.1}, classes, draw_labels, 180),
    Plan("epc_four_steps", "epc", {"steps": 4, "rate": 0.25}, classes, draw_labels, 181),
    Plan("epc_map", "epc", {"steps": 4, "rate": 0.25}, averaging, draw_labels, 182),
    Plan("epc_skip", "epc", {"steps": 2, "rate": 0.5}, skipping, draw_labels, 183),
    Plan("blocks_clapp_size_1", "blocks-clapp", {"size": 1}, four, saccades, 190, 0.25, own=2.0),
    Plan("blocks_clapp_size_2", "blocks-clapp", {"size": 2}, four, saccades, 191, 0.25, own=2.0),
    Plan("blocks_clapp_size_3", "blocks-clapp", {"size": 3}, four, saccades, 192, 0.25, own=2.0),
    Plan("blocks_clapp_map", "blocks-clapp", {"size": 2}, lambda: chain("tanh", 5), saccades, 193, 1 / 16, own=4.0),
    Plan("blocks_clapp_map_size_1", "blocks-clapp", {"size": 1}, lambda: chain("tanh", 5), saccades, 194, 1 / 32, own=3.0),
    Plan("dfa_pc_no_steps", "dfa-pc", {"steps": 0, "rate": 0.1}, classes, draw_labels, 200),
    Plan("dfa_pc_settled", "dfa-pc", {"steps": 3, "rate": 0.1}, classes, draw_labels, 201),
    Plan("dfa_pc_kappa", "dfa-pc", {"steps": 3, "rate": 0.1, "kappa": 0.5}, classes, draw_labels, 202),
    Plan("dfa_pc_default", "dfa-pc", {}, classes, draw_labels, 203),
    Plan(
        "dfa_pc_learned",
        "dfa-pc",
        {"steps": 3, "rate": 0.2, "kappa": 0.5, "feedback": "learned"},
        classes,
        draw_labels,
        204,
    ),
    Plan("dfa_pc_map", "dfa-pc", {"steps": 3, "rate": 0.1, "kappa": 0.5}, lambda: chain("linear"), draw_labels, 205),
    Plan("dfa_pc_map_learned", "dfa-pc", {"steps": 2, "rate": 0.2, "feedback": "learned"}, averaging, draw_labels, 206),
    Plan(
        "dfa_pc_held",
        "dfa-pc",
        {"steps": 3, "rate": 0.2, "kappa": 0.5, "feedback": "learned", "schedule": "fixed-prediction"},
        classes,
        draw_labels,
        208,
    ),
    Plan(
        "dfa_pc_held_skip",
        "dfa-pc",
        {"steps": 2, "rate": 0.25, "schedule": "fixed-prediction"},
        skipping,
        draw_labels,
        209,
    ),
    Plan("dfa_pc_skip", "dfa-pc", {"steps": 2, "rate": 0.2, "kappa": 0.5}, skipping, draw_labels, 207),
]
