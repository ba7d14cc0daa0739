"""Families whose networks have several stages, besides Swin."""
