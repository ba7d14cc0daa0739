"""Devices: where a graph is timed, and what it costs there block by block."""
