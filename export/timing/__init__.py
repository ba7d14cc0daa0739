"""Latency: interleaved timing against a reference graph, and the table of timed blocks."""
