"""Merges between stages, one module each: they reduce the number of tokens."""
