"""Aligning and merging trained transformers."""
