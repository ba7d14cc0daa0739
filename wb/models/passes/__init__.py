"""Passes: they make a model from a model."""
