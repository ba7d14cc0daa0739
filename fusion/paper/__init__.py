"""Transformer Fusion with Optimal Transport as published, to compare with."""
