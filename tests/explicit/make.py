"""Writes the reference files: `python -m explicit.make DIRECTORY [NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

from . import alignment, clapp, contrastive, goodness, infonce, optimal, predictive
from .cases import Plan, Rule, build, write
from .networks import (
    averaging,
    cells,
    cells_top,
    classes,
    coarser,
    dense,
    doubled,
    doubled_maps,
    four,
    lengths,
    map_lengths,
    map_top,
    maps,
    neighbours,
    oblong,
    oblong_top,
    skipping,
    two,
    two_lengths,
)
from .observing import (
    either,
    even_phases,
    gained,
    gained_labels,
    gained_phases,
    gained_views,
    halves,
    labels,
    modulated,
    only_fixations,
    pairs,
    phases,
    short_glances,
    single,
    stream,
    views,
    walks,
)

FAMILIES = (contrastive, clapp, infonce, goodness, alignment, predictive, optimal)
RULES: dict[str, type[Rule]] = {name: rule for family in FAMILIES for name, rule in family.RULES.items()}
SLOW = {"steps": 7, "rate": 0.1}
PC = {"steps": 5, "rate": 0.2}
CASES = [
    Plan("clapp++gap_dense", "clapp++gap", {}, dense, pairs, 1, own=2.0, lr=0.25),
    Plan("clapp++gap_map", "clapp++gap", {}, maps, pairs, 2, own=3.0, lr=0.0625),
    Plan("clapp++gap_gain", "clapp++gap", {}, two, modulated, 3, own=2.0, lr=0.25),
    Plan("clapp++gap_one_gain_softplus", "clapp++gap", {"contrast": "softplus"}, two, gained, 4, lr=0.25),
    Plan("clapp++gap_linear", "clapp++gap", {"contrast": "linear"}, two, pairs, 5, lr=0.25),
    Plan("clapp++gap_context_top", "clapp++gap", {"context": "top"}, two, pairs, 6, own=2.0, lr=0.25),
    Plan("clapp++gap_context_both", "clapp++gap", {"context": "both"}, two, pairs, 7, own=2.0, lr=0.25),
    Plan("clapp++gap_online", "clapp++gap", {}, two, stream, 8, own=2.0, moments=4, lr=0.25),
    Plan("clapp++gap_low_rank", "clapp++gap", {"prediction": "low-rank:2"}, neighbours, pairs, 9, own=3.0, lr=0.0625),
    Plan("clapp++_cells", "clapp++", {}, cells, pairs, 10, own=3.0, lr=0.0625),
    Plan("clapp++_cells_phyll", "clapp++", {"contrast": "phyll"}, cells, pairs, 12, lr=0.0625),
    Plan("clapp++_banded", "clapp++", {"prediction": "banded:1"}, neighbours, pairs, 14, own=3.0, lr=0.0625),
    Plan("clapp++dfb_banded", "clapp++dfb", {"prediction": "banded:1"}, coarser, pairs, 15, own=3.0, lr=0.0625),
    Plan("clapp-phyll_dense", "clapp-phyll", {}, two, pairs, 16, lr=0.25),
    Plan("clapp-phyll_steepness", "clapp-phyll", {"steepness": 2.0}, two, gained, 17, lr=0.25),
    Plan("clapp-dfb_dense", "clapp-dfb", {}, dense, pairs, 18, own=2.0, lr=0.25),
    Plan("clapp-dfb_map", "clapp-dfb", {}, map_top, pairs, 19, own=3.0, lr=0.0625),
    Plan("clapp++dfb_cells", "clapp++dfb", {}, cells, pairs, 20, own=3.0, lr=0.0625),
    Plan("clapp++dfb_dense_top", "clapp++dfb", {}, maps, single, 21, own=3.0, lr=0.0625),
    Plan("clapp++both_cells", "clapp++both", {}, cells, pairs, 22, own=3.0, lr=0.0625),
    Plan("clapp++both_gain", "clapp++both", {}, two, modulated, 23, own=2.0, lr=0.25),
    Plan("clapp-fixed_map", "clapp-fixed", {}, maps, pairs, 24, own=3.0, lr=0.0625),
    Plan("clapp++fixed_cells", "clapp++fixed", {}, cells, pairs, 25, own=3.0, lr=0.0625),
    Plan("clapp-optimal_dense", "clapp-optimal", {}, dense, pairs, 30, own=2.0, lr=0.25),
    Plan("clapp-optimal_softplus", "clapp-optimal", {"contrast": "softplus"}, map_top, modulated, 31, lr=0.25),
    Plan("clapp-optimal_phyll", "clapp-optimal", {"contrast": "phyll", "steepness": 2.0}, two, gained, 32, lr=0.25),
    Plan("clapp++optimal_cells", "clapp++optimal", {}, cells, pairs, 33, own=3.0, lr=0.0625),
    Plan("clapp++optimal_cells_softplus", "clapp++optimal", {"contrast": "softplus"}, cells, pairs, 34, lr=0.0625),
    Plan("clapp_pairs", "clapp", {}, two, single, 40, own=2.0, lr=0.25),
    Plan("clapp_either_map", "clapp", {}, neighbours, either, 41, own=3.0, lr=0.0625),
    Plan("clapp_three_steps", "clapp", {"steps": 3}, two, walks, 48, own=1.5, lr=0.25),
    Plan("clapp_two_steps_softplus", "clapp", {"steps": 2, "contrast": "softplus"}, two, short_glances, 43, lr=0.25),
    Plan("clapp_empty_group", "clapp", {"steps": 2}, two, only_fixations, 44, own=2.0, lr=0.25),
    Plan("clapp_transposed", "clapp", {"steps": 3, "retrodiction": "transposed"}, two, walks, 45, own=2.0, lr=0.25),
    Plan("clapp_transposed_map", "clapp", {"retrodiction": "transposed"}, map_top, either, 46, own=3.0, lr=0.0625),
    Plan("clapp_no_retrodiction", "clapp", {"steps": 3, "retrodiction": "none"}, two, walks, 47, own=2.0, lr=0.25),
    Plan("clapp_modulated", "clapp", {}, two, modulated, 49, own=2.0, lr=0.25),
    Plan("clapp-s_map", "clapp-s", {}, map_top, modulated, 39, own=3.0, lr=0.0625),
    Plan("infonce-local_dense", "infonce-local", {}, dense, views, 50, lr=0.0625),
    Plan("infonce-local_map", "infonce-local", {}, map_top, views, 51, lr=0.0625),
    Plan("infonce-local_projection", "infonce-local", {"projection": 4}, two, views, 52, lr=0.0625),
    Plan("infonce-local_negatives", "infonce-local", {"negatives": 2}, two, views, 53, lr=0.0625),
    Plan("infonce-local_gain", "infonce-local", {}, two, gained_views, 54, lr=0.0625),
    Plan("bp-infonce_dense", "bp-infonce", {}, dense, gained_views, 55, lr=0.0625),
    Plan("bp-infonce_map", "bp-infonce", {}, map_top, views, 56, lr=0.0625),
    Plan("ff_dense", "ff", {}, lengths, phases, 60, 1 / 16, gain=1.0),
    Plan("ff_map", "ff", {}, map_lengths, phases, 61, 1 / 64, gain=0.7),
    Plan("ff_gain", "ff", {}, two_lengths, gained_phases, 62, 1 / 16, gain=1.0),
    Plan("ff_threshold", "ff", {"threshold": 3.0}, two_lengths, phases, 63, 1 / 16, gain=0.8),
    Plan("ff_mean_goodness", "ff", {"goodness": "mean"}, two_lengths, phases, 64),
    Plan("ff_peers", "ff", {"peers": 0.03}, two_lengths, phases, 66, 1 / 16, gain=0.9),
    Plan("ff-hybrid_dense", "ff-hybrid", {}, two_lengths, even_phases, 67, 1 / 16, gain=1.0),
    Plan("phyll_dense", "phyll", {}, two_lengths, even_phases, 68),
    Plan("phyll_steepness", "phyll", {"steepness": 2.0}, two_lengths, even_phases, 65),
    Plan("phyll_map", "phyll", {}, map_lengths, even_phases, 69),
    Plan("scff_map", "scff", {}, doubled_maps, halves, 70),
    Plan("scff_dense", "scff", {}, doubled, halves, 71),
    Plan("scff_thresholds", "scff", {"thresholds": [0.5, 1.5]}, doubled, halves, 72),
    Plan("scff_penalty", "scff", {"penalty": 0.05}, doubled_maps, halves, 73),
    Plan("bp-ff_dense", "bp-ff", {}, lengths, gained_phases, 74, 1 / 64),
    Plan("bp-ff_map", "bp-ff", {}, map_lengths, phases, 75, 1 / 256, gain=0.7),
    Plan("bp_dense", "bp", {}, classes, labels, 80),
    Plan("bp_map", "bp", {}, averaging, labels, 81),
    Plan("bp_skip", "bp", {}, skipping, labels, 82),
    Plan("bp_squared_error", "bp", {"objective": "squared-error"}, classes, gained_labels, 83),
    Plan("bp-clapp++_dense", "bp-clapp++", {}, dense, modulated, 84, own=2.0, lr=0.25),
    Plan("bp-clapp++_map", "bp-clapp++", {}, map_top, pairs, 85, own=3.0, lr=0.0625),
    Plan("bp-clapp++_softplus", "bp-clapp++", {"contrast": "softplus"}, two, pairs, 86, lr=0.25),
    Plan("bp-clapp++both_cells", "bp-clapp++both", {}, cells, pairs, 87, own=3.0, lr=0.0625),
    Plan("bp-hinge-cpc_dense", "bp-hinge-cpc", {"steps": 3}, two, walks, 88, own=1.5, lr=0.25),
    Plan("bp-hinge-cpc_map", "bp-hinge-cpc", {}, map_top, modulated, 89, own=3.0, lr=0.0625),
    Plan("bp-barlow_map", "bp-barlow", {}, map_top, views, 79, lr=1 / 64),
    Plan("fa_dense", "fa", {}, classes, gained_labels, 90),
    Plan("fa_map", "fa", {}, averaging, labels, 91),
    Plan("fa_squared_error", "fa", {"objective": "squared-error"}, classes, labels, 93),
    Plan("fa-clapp_map", "fa-clapp", {}, map_top, pairs, 94, own=3.0, lr=0.0625),
    Plan("dfa_dense", "dfa", {}, classes, gained_labels, 100),
    Plan("dfa_map", "dfa", {}, averaging, labels, 101),
    Plan("dfa_target_pool_global", "dfa", {"target_pool": "global"}, oblong, labels, 103),
    Plan("dfa_target_pool_two", "dfa", {"target_pool": 2}, oblong, labels, 104),
    Plan("dfa-clapp_map", "dfa-clapp", {}, map_top, pairs, 105, own=3.0, lr=0.015625),
    Plan("dfa-clapp_cells", "dfa-clapp", {"pool": "spatial"}, cells_top, single, 108, own=3.0, lr=0.015625),
    Plan("dfa-clapp_oblong", "dfa-clapp", {}, oblong_top, pairs, 109, own=3.0, lr=0.015625),
    Plan("dfa-clapp_gain", "dfa-clapp", {"contrast": "softplus"}, two, modulated, 106, lr=0.25),
    Plan("dfa-infonce_oblong", "dfa-infonce", {}, oblong_top, views, 98, lr=0.0625),
    Plan("dfa-infonce_map", "dfa-infonce", {}, map_top, views, 107, lr=0.0625),
    Plan("pc_five_steps", "pc", PC, classes, labels, 110),
    Plan("pc_seven_slow_steps", "pc", SLOW, four, labels, 111),
    Plan("pc_map", "pc", PC, averaging, labels, 112),
    Plan("pc_gain_squared_error", "pc", PC | {"objective": "squared-error"}, classes, gained_labels, 113),
    Plan("pc_skip", "pc", PC, skipping, labels, 114),
    Plan("pc_feedback_learned", "pc", PC | {"feedback": "learned"}, classes, labels, 115),
    Plan("pc_feedback_fixed", "pc", PC | {"feedback": "fixed"}, classes, labels, 117),
    Plan("pc_values_before_nonlinearity", "pc", PC | {"values": "drive"}, four, labels, 118),
    Plan("pc_values_before_nonlinearity_map", "pc", PC | {"values": "drive"}, averaging, labels, 119),
    Plan("pc-clapp_dense", "pc-clapp", SLOW, dense, pairs, 120, own=2.0, lr=0.25),
    Plan(
        "pc-clapp_softplus_map",
        "pc-clapp",
        {"steps": 3, "rate": 0.2, "contrast": "softplus"},
        map_top,
        pairs,
        121,
        lr=0.5,
    ),
    Plan("pc-infonce_dense", "pc-infonce", {"steps": 3, "rate": 0.05}, dense, views, 122, lr=0.0625),
    Plan("ipc_three_steps", "ipc", {"steps": 3, "rate": 0.2}, classes, labels, 123, lr=0.125),
    Plan("ipc_map", "ipc", {"steps": 4, "rate": 0.1}, averaging, labels, 124, lr=0.125),
    Plan("pc-fixed_exact", "pc-fixed", {"steps": 4, "rate": 1.0}, four, labels, 125),
    Plan("pc-fixed_seven_slow_steps", "pc-fixed", SLOW, four, labels, 126),
    Plan("z-il_dense", "z-il", {}, four, labels, 128),
    Plan("z-il_map", "z-il", {}, averaging, labels, 129),
]
# Coarse stimuli keep the files small.
CASES = [plan._replace(unit=1 / 4) for plan in CASES]


def main() -> None:
    """Writes the named files, or all."""
    directory, names = Path(sys.argv[1]), sys.argv[2:]
    directory.mkdir(parents=True, exist_ok=True)
    for plan in CASES:
        if not names or plan.name in names:
            path = write(directory, build(plan, RULES))
            print(f"{path.stat().st_size:6d}  {path.name}")


if __name__ == "__main__":
    main()
