"""Costs of the models that a job made, as shares of those of the model that they are made of."""

from __future__ import annotations

from wb.core.measures.metrics import LATENCIES, METRICS
from wb.core.measures.readings import Reading, Readings, ratio

COLUMNS = {  # costs
    "latency": "latency",
    "latency@prompt": "latency of a prompt",
    "latency@token": "latency of a token",
    "macs": "MACs",
    "params": "parameters",
    "size": "size",
    "energy": "energy",
}
TOLD = (*LATENCIES, "macs", "params")


def shares(readings: Readings, dense: Readings) -> dict[str, Reading]:
    """Costs by metric as shares of the dense model's, which was timed together with the others."""
    return {name: ratio(readings[name], dense[name]) for name in COLUMNS if name in dense}


def listed(found: Readings) -> str:
    """All shares: `0.512x latency, 0.5x macs, …`."""
    return ", ".join(f"{share.plain()} {name}" for name, share in found.items())


def told(found: Readings) -> str:
    """The shares that matter most, as a sentence has them."""
    return ", ".join(f"{found[name].value:.3f} of the {METRICS[name].title}" for name in TOLD if name in found)
