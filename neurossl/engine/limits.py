"""Every number with which the engine is tuned, and what it was measured on."""

SMALL_MAP = 16
"""Places of a map up to which the weight change of a convolution is one matrix product: twice as fast at 4 x 4 on a CPU."""

LARGE_MAP = 2**23
"""Values of a map before its pooling that are in memory at a time."""

FEW_ROWS = 0.75
"""Fraction of learning rows up to which gathering them pays: what is gathered is read and written once more."""

BLOCK = 2**21
"""Weights that are changed at a time, where a dense pathway has more."""

SAMPLED_SYNAPSES = 65536
"""Synapses on which updates of different moments are compared."""
