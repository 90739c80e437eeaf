"""What `protocols.image_benchmark` alone needs."""
