"""Plasticity rules on small networks as explicit updates in float64, for reference files; numpy alone."""
