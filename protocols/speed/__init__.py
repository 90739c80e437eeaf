"""What `protocols.benchmark` and `protocols.view_speed` alone need."""
