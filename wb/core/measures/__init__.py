"""Metrics, readings of them, and what is required of them."""
