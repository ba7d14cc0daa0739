"""Sweeps: networks of several shapes, trained alike and timed together."""
