"""Latencies on several devices at once, and predicted ones on devices that are only known from a table."""
