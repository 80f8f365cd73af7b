"""Layer 1, pure: values and decisions. No I/O, no clock, no randomness; those come in as arguments."""
