"""The parts of `protocols.spatial_dependence`."""
