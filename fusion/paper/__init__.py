"""Transformer Fusion with Optimal Transport as published, as a baseline."""
