"""The parts of `protocols.rule_fingerprints`."""
