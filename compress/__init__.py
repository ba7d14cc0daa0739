"""Passes that make a model smaller: pruning of every axis under a budget, depth analysis; what is outside our family."""
