"""Mixers that carry a state along the tokens."""
