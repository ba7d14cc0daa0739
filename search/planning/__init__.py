"""What a search costs on this machine, and what fits into a given time."""
