"""Which block of one model corresponds to which block of another."""
