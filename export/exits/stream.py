"""The mean latency of graphs over real examples: what a network costs whose path depends on what it is given.

Samples of all graphs are interleaved: in every round each graph runs the same short sequence of examples, one by one,
in an order of graphs that is drawn anew for each sequence; one untimed run goes before. A sample is the sequence's
mean; one that was disturbed (`wb.export.timing.clock`) is taken again, up to `TRIES` times. A round's mean is over
all examples; the value is the Hodges-Lehmann estimate over rounds (`wb.export.timing.measure.centre`). Ratios to the
first graph are of the same rounds, so that the machine's drift cancels.

Limits: on this machine; one thread is watched. The interval is of the timing, not of the choice of examples.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadOption, Unsupported
from wb.core.measures.readings import Reading
from wb.data import Split
from wb.export.timing.clock import CLEAN, cpu_clock_s, quiet
from wb.export.timing.measure import FEWEST, Centre, centre
from wb.hardware.device import Device, session

SEQUENCE = 8  # examples that a graph runs before the next one does
TRIES = 3
EXAMPLES = 256  # at most
PRECISION = 0.03  # full width of the interval, relative to the value


class Mean(NamedTuple):
    """The mean latency of a graph over examples, and as a multiple of the first graph's in the same rounds."""

    reading: Reading
    ratio: Reading


def stream_latency(
    graphs: Mapping[str, Path],
    split: Split,
    device: Device,
    *,
    seed: int = 0,
    cap_s: float = 20.0,
    examples: int = EXAMPLES,
) -> dict[str, Mean]:
    """Measures all graphs over at most so many `examples` of `split`, evenly spaced, one at a time, as the module describes.

    Rounds follow until all intervals are narrower than `PRECISION` or `cap_s` seconds are over; at least six are made.

    Raises:
        BadOption: no graphs, or no time.
        Unsupported: a device elsewhere, to which examples are not sent.
    """
    if not graphs or min(cap_s, examples) <= 0:
        raise BadOption(f"cannot time {len(graphs)} graphs for {cap_s} s on {examples} examples; give some of each")
    if device.address is not None:
        raise Unsupported(f"latency over examples is measured on this machine, not on {device.address}")
    index = spread(len(split), examples)
    feeds = [split.feed(index[i : i + 1]) for i in range(len(index))]
    runs = {name: _Run(path, device) for name, path in graphs.items()}
    rounds: dict[str, list[float]] = {name: [] for name in graphs}
    shuffle, start = random.Random(seed), time.perf_counter()
    with quiet(device):
        while True:
            for name, seconds in _round(runs, feeds, shuffle).items():
                rounds[name].append(1000 * seconds)
            done = len(next(iter(rounds.values())))
            if done >= FEWEST and (time.perf_counter() - start > cap_s or _narrow(rounds)):
                break
    return _means(rounds, len(feeds), device)


def spread(count: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `count` examples, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


class _Run:
    """A graph on a device."""

    def __init__(self, path: Path, device: Device) -> None:
        self._session = session(path, device)
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._judged = device.name == "cpu" and cpu_clock_s() < 1e-4

    def __call__(self, feeds: list[Any]) -> float:
        """Seconds per example, the best of some tries where they are disturbed."""
        given = [{self._input: next(iter(feed.values()))} for feed in feeds]
        self._session.run(self._outputs, given[-1])
        tries = []
        for _ in range(TRIES):
            cpu, wall = time.thread_time(), time.perf_counter()
            for one in given:
                self._session.run(self._outputs, one)
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            tries.append(wall / len(given))
            if not self._judged or cpu > CLEAN * wall:
                return tries[-1]
        return min(tries)


def _round(runs: Mapping[str, _Run], feeds: list[Any], shuffle: random.Random) -> dict[str, float]:
    """Seconds per example of every graph, over all examples."""
    total = dict.fromkeys(runs, 0.0)
    for begin in range(0, len(feeds), SEQUENCE):
        part = feeds[begin : begin + SEQUENCE]
        for name in shuffle.sample(list(runs), len(runs)):
            total[name] += runs[name](part) * len(part)
    return {name: seconds / len(feeds) for name, seconds in total.items()}


def _narrow(rounds: Mapping[str, list[float]]) -> bool:
    return all(centre(values).width() < PRECISION for values in rounds.values())


def _means(rounds: Mapping[str, list[float]], examples: int, device: Device) -> dict[str, Mean]:
    first = next(iter(rounds.values()))
    note = f"mean over {examples} examples, one at a time"

    def reading(found: Centre, unit: str, count: int) -> Reading:
        interval = (found.low, found.high)
        return Reading(
            value=found.value, unit=unit, how="measured", interval=interval, n=count, device=device.text, note=note
        )

    return {
        name: Mean(
            reading(centre(values), "ms", len(values)),
            reading(centre([own / other for own, other in zip(values, first, strict=True)]), "x", len(values)),
        )
        for name, values in rounds.items()
    }
