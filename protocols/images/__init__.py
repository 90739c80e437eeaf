"""What `protocols.image_benchmark` needs, and in part `protocols.spatial_dependence`."""
