"""Known networks, and words alone, beside the finalists of a search."""
