"""Latency under load that lasts: a device that grows hot slows down, which a timing of seconds does not show."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.export.timing.bench import bench_of
from wb.export.timing.clock import Sample, quiet
from wb.export.timing.measure import FEWEST, Centre, Timing, centre
from wb.hardware.device import Device

SHARE = 5  # the first and the last of so many parts of the time are compared
MOST = 60  # values that one part is told by: means of neighbours


def sustained_latency(
    graph: Path,
    device: Device,
    seconds: float,
    *,
    batch: int = 1,
    seed: int = 0,
    tokens: int | None = None,
    behind: bool = False,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Reading]:
    """Runs a graph, and the reference graph in turn with it, for so many `seconds`; of texts all `tokens`, or the last `behind`.

    Gives `latency, sustained`, the milliseconds of a run in the last fifth of the time, and `sustained / first`, in multiples of
    the first fifth. Both are wall times, since what slows the reference too is what is asked for. `progress` hears the seconds
    that are over.

    Raises:
        BadOption: a time that is not enough for the fewest samples; says how much is.
        WbError: as `wb.export.timing.measure.measure_latency`.

    Limits: between the samples of a batch the device is busy; between batches a device elsewhere waits for the channel.
    """
    with quiet(device):
        bench = bench_of({graph.name: graph}, device, batch, seed, tokens, [graph.name] if behind else [])
        timing = Timing([graph.name], bench, device.threads == 1, random.Random(seed))
        start = time.perf_counter()
        taken: list[tuple[float, list[Sample]]] = []
        while (over := time.perf_counter() - start) < seconds:
            timing.batch([graph.name])
            taken.append((over / seconds, [pair.sample for pair in timing.pairs[graph.name][-1]]))
            if progress is not None:
                progress(over)
    parts = [[one for share, one in taken if low <= share * SHARE < low + 1] for low in (0, SHARE - 1)]
    if min(map(len, parts)) < FEWEST:
        each = seconds / max(1, len(taken))
        raise BadOption(
            f"{seconds:g} s are not enough to tell their last fifth from the first: give "
            f"{math.ceil(2 * SHARE * FEWEST * each)} s or more"
        )
    first, last = (centre(_walls(part)) for part in parts)
    clean = sum(sample.clean for _, samples in taken for sample in samples)
    every = sum(len(samples) for _, samples in taken)
    note = (
        f"over {seconds:g} s; {every - clean} of {every} samples were disturbed by other work"
        if clean < every
        else None
    )

    def reading(value: Centre, unit: str, n: int) -> Reading:
        return Reading(
            value=value.value,
            unit=unit,
            how="measured",
            interval=(max(0.0, value.low), value.high),
            n=n,
            device=device.text,
            note=note or f"over {seconds:g} s",
        )

    spread = Centre(last.value / first.value, last.low / first.high, last.high / first.low)
    ms = Centre(*(1000 * value for value in last))
    return {
        "latency, sustained": reading(ms, "ms", len(parts[1])),
        "sustained / first": reading(spread, "x", len(taken)),
    }


def _walls(batches: Sequence[Sequence[Sample]]) -> list[float]:
    """The wall seconds of batches in the order of time, clean samples where a batch has any; at most `MOST` values."""
    values = [median([one.wall for one in batch if one.clean] or [one.wall for one in batch]) for batch in batches]
    return [float(np.mean(part)) for part in np.array_split(np.array(values), min(MOST, len(values)))]
