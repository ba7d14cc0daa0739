"""Mixers that compute on maps."""
