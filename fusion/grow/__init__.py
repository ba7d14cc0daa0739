"""Growing a trained network to a larger architecture without changing what it computes."""
