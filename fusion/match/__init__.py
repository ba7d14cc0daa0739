"""Matching the blocks of two models."""
