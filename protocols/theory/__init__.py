"""What `protocols.theory_equivalence` alone needs."""
