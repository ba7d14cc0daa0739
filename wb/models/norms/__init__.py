"""Norms over the channels of a token, one module each."""
