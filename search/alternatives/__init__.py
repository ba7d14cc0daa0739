"""Alternatives for every sub-layer of a trained model: what they are, what each costs and does, and which go together."""
