"""What every protocol stands on: options, run folders, runs side by side, probes."""
