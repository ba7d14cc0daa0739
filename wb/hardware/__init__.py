"""Devices that run graphs, a time limit on runs, and a model of energy."""
