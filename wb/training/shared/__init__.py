"""Training by several processes: what of a network they share, and how it is divided among them."""
