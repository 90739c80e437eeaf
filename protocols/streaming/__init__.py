"""What `protocols.streaming_fixations` alone needs."""
