"""Recipes: how a network is trained, and which recipe suits network and data."""
