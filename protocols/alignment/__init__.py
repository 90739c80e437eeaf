"""What `protocols.update_alignment` alone needs."""
