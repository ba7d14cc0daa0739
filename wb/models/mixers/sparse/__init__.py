"""Mixers that attend to summaries of tokens instead of all of them."""
