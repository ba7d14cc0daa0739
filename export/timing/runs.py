"""The latencies of networks: of one run, or of the two kinds of runs that a network that continues texts has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from wb.core.measures.readings import Reading
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device

LATENCY, PROMPT, TOKEN = "latency", "latency@prompt", "latency@token"


def measure_runs(
    graphs: Mapping[str, Path | bytes],
    device: Device,
    *,
    continues: bool,
    precision: float = 0.03,
    cap_s: float | None = None,
    seed: int = 0,
    pace: Reading | None = None,
    tokens: int | None = None,
    batch: int = 1,
    progress: Callable[[str], None] | None = None,
) -> dict[str, dict[str, Latency]]:
    """Name of the graph -> metric -> its latency, all timed together as `measure_latency` does, with its arguments.

    A graph that `continues` texts has that of a prompt of the usual number of tokens, that of the last of these tokens behind
    the others, and the latter as its latency.
    """
    metrics = (PROMPT, TOKEN) if continues else (LATENCY,)
    runs = {f"{metric} {name}": graph for metric in metrics for name, graph in graphs.items()}
    timed = measure_latency(
        runs,
        device,
        batch=batch,
        precision=precision,
        cap_s=cap_s,
        seed=seed,
        pace=pace,
        tokens=tokens,
        behind=[run for run in runs if run.startswith(TOKEN)],
        progress=progress,
    )
    found: dict[str, dict[str, Latency]] = {name: {} for name in graphs}
    for run, latency in timed.items():
        metric, _, name = run.partition(" ")
        found[name][metric] = latency
    return {name: {LATENCY: own[TOKEN], **own} if continues else own for name, own in found.items()}


def readings_of(latencies: Mapping[str, Latency]) -> dict[str, Reading]:
    """Metric -> reading in milliseconds."""
    return {metric: latency.reading for metric, latency in latencies.items()}
