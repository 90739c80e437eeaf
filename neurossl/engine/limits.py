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

SMALL_PRODUCT = 2**22
"""Multiplications of a product of matrices from which on it matters which library computes it."""

TUNED_WEIGHTS = 2**16
"""Synapses of a pathway from which on the library of matrix products is chosen by measuring."""

TUNED_CONVOLUTION = 2**24
"""Multiplications per row from which on the form of a convolution is chosen by measuring."""

PRODUCT_MAP = 64
"""Places of a map up to which a convolution may be one product: on larger ones unfolding it costs more than any kernel."""

PROBE_SMALL, PROBE_LARGE = (16, 256), (8, 128)
"""Most rows and most postsynaptic channels with which small and large maps are measured: enough rows that handling the
weights does not count for more than it will."""

PROBE_MULTIPLICATIONS = 2**29
"""Of one call on a large map while measuring: 5 ms at 200 GFLOP/s."""

PROBE_ROUNDS = 4
"""How often every candidate is measured, in turn; the best counts."""

GAIN = 0.8
"""Fraction of the time of torch's own way below which another one is taken: what is hardly faster is not worth it."""
