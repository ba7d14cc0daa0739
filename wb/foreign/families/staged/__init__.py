"""Families whose networks have several stages."""
