"""Measuring the latency of exported graphs, robustly on a noisy machine.

All graphs are timed together with a fixed reference graph (`wb.export.timing.reference`), and each sample of a graph lies
between two samples of the reference:

    batch 1:  ref a ref c ref b ref   ref b ref a ref c ref   …      new sessions, then
    batch 2:  ref c ref b ref a ref   …

1. A sample is k runs back to back, with k such that it lasts 1.5 ms, after one untimed run that refills the caches.
2. A sample is *clean* if the thread had the processor all the time: CPU time / wall time > 0.97. Others are rejected
   and counted (`wb.export.timing.clock`).
3. A *ratio* is a clean sample over the mean of the clean reference samples before and after it. The speed of the
   machine, which changes by 10 to 30 % within seconds, is in both and cancels; a linear drift cancels exactly.
4. A *batch* is a few rounds on freshly made sessions, and counts as one observation: its median ratio. Rounds are not
   independent, because neighbours share the state of the machine, and all runs of a session share the luck of their
   memory addresses (1 to 5 % here). Medians of batches nearly are (the method of batch means); where they still
   correlate, the interval is stretched.
5. The value is the Hodges-Lehmann estimate over the batches, with the exact signed-rank interval. It is as good as the
   mean if noise is normal, and robust to a quarter of bad batches.
6. Milliseconds are the ratio times the same estimate for the reference. The reference's interval is added in quadrature,
   so that the interval in milliseconds shows how unsteady the machine was. All graphs of one call share that factor, so
   they have the same order in milliseconds as in ratios.
7. Batches follow until the interval (its full width) is narrower than `precision` of the value, or `cap_s` is spent.

Source: Law, Simulation Modeling and Analysis, chapter 9 (batch means); Hodges and Lehmann 1963,
https://doi.org/10.1214/aoms/1177704172.
Limits: with more than one thread only the calling one is watched, so a disturbed sample can pass for a clean one. On a
device other than the CPU nothing is rejected. Stopping when the interval is narrow lowers its coverage, to 92-98 % in
simulation. The latency of graphs with weights larger than the level-2 cache depends on other work of the machine, which
a small reference cannot correct.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.export.timing.bench import Bench, bench_of
from wb.export.timing.clock import Sample, quiet
from wb.export.timing.reference import reference_graph
from wb.hardware.device import Device
from wb.hardware.remote.elsewhere import ours_there

BATCH_S = 0.035  # seconds of a graph per batch, within 1 to ROUNDS rounds
ROUNDS = 9
BATCHES = 8  # the fewest batches of a graph, unless the cap is reached
FEWEST = 6  # the fewest batches even then: with fewer there is no 95 % interval


@dataclass(frozen=True)
class Pair:
    """A sample of a graph, and the samples of the reference before and after it."""

    sample: Sample
    before: Sample
    after: Sample

    def ratio(self) -> float | None:
        """Wall time over that of the reference; None if the sample, or both reference samples, were disturbed."""
        beside = [reference.wall for reference in (self.before, self.after) if reference.clean]
        return self.sample.wall / fmean(beside) if self.sample.clean and beside else None

    def fallback(self, single: bool) -> float:
        """The ratio for disturbed samples: of CPU times with a `single` thread, else of wall times."""
        if single:
            return 2 * self.sample.cpu / (self.before.cpu + self.after.cpu)
        return 2 * self.sample.wall / (self.before.wall + self.after.wall)


class Centre(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def width(self) -> float:
        """The full width of the interval, relative to the value."""
        return (self.high - self.low) / self.value


@dataclass(frozen=True)
class Latency:
    """The latency of one graph.

    `reading` is in ms. `ratio` is in x, multiples of the reference graph; compare this one across processes and days.
    `clean` and `rejected` count samples. `cpu_time_ms` is the median CPU time per run of the calling thread, over all samples.
    """

    reading: Reading
    ratio: Reading
    clean: int
    rejected: int
    cpu_time_ms: float


# ---------------------------------------------------------------------------------------------------- the estimator


def centre(values: Sequence[float]) -> Centre:
    """The Hodges-Lehmann estimate (median of all pairwise means) of `values`, in the order of time, with a 95 % interval.

    The interval is the exact signed-rank one, stretched by √((1+r)/(1-r)) if neighbours correlate with r > 0.

    Limits: fewer than six values allow no 95 % interval; it is infinite then. Eight show a correlation only roughly.
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    first, second = np.triu_indices(n)
    means = np.sort((x[first] + x[second]) / 2)
    ways = np.ones(1)  # ways[w]: the probability of the rank sum w under the null hypothesis
    for rank in range(1, n + 1):
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    cut = int(np.searchsorted(np.cumsum(ways), 0.025, side="right"))  # P(W < cut) <= 0.025
    if cut == 0:
        return Centre(float(np.median(means)), -math.inf, math.inf)
    value, stretch = float(np.median(means)), _stretch(np.asarray(values, dtype=float))
    return Centre(
        value, value - stretch * (value - float(means[cut - 1])), value + stretch * (float(means[-cut]) - value)
    )


def _stretch(series: NDArray[np.float64]) -> float:
    """The factor that widens an interval for correlated neighbours in `series` (first-order autoregression)."""
    apart = series - np.median(series)
    scale = float(apart @ apart)
    r = min(0.8, max(0.0, float(apart[1:] @ apart[:-1]) / scale)) if scale else 0.0
    return math.sqrt((1 + r) / (1 - r))


def relate(batches: Sequence[Sequence[Pair]], single: bool = True) -> tuple[Centre, str | None]:
    """The ratio to the reference over `batches`, and a note if too few samples were clean.

    In that case all samples count: by CPU time with a `single` thread, else by wall time. CPU time needs no undisturbed
    stretch, but includes after-effects of disturbances (cold caches).
    """
    clean = [[ratio for pair in batch if (ratio := pair.ratio()) is not None] for batch in batches]
    kept = [median(batch) for batch in clean if batch]
    if len(kept) >= FEWEST and sum(map(len, clean)) >= 0.2 * sum(map(len, batches)):
        return centre(kept), None
    all_ = centre([median(pair.fallback(single) for pair in batch) for batch in batches])
    used = "CPU time of all samples" if single else "wall time of all samples, disturbed ones too"
    return all_, f"the machine was too busy for enough undisturbed samples; {used} is used"


def product(ratio: Centre, reference: Centre) -> Centre:
    """`ratio` times `reference`, with their relative errors added in quadrature."""
    value = ratio.value * reference.value
    down = math.hypot(1 - ratio.low / ratio.value, 1 - reference.low / reference.value)
    up = math.hypot(ratio.high / ratio.value - 1, reference.high / reference.value - 1)
    return Centre(value, max(0.0, value * (1 - down)), value * (1 + up))


# ----------------------------------------------------------------------------------------------------- the protocol


@dataclass
class Timing:
    """The samples of all graphs so far, by batch."""

    names: Sequence[str]
    bench: Bench
    single: bool
    shuffle: random.Random
    fixed: Reading | None = None  # a pace measured earlier
    off: Collection[str] = ()  # graphs on another device than the processor, of whose work CPU time tells nothing
    pairs: dict[str, list[list[Pair]]] = field(default_factory=dict)
    beside: list[list[Sample]] = field(default_factory=list)  # samples of the reference

    def batch(self, names: Sequence[str]) -> None:
        """Samples one batch of the graphs called `names`; slow graphs take part in fewer rounds."""
        rounds = {name: min(ROUNDS, max(1, round(BATCH_S / self.bench.cost_s[name]))) for name in names}
        order: list[str] = []
        for number in range(max(rounds.values())):
            turn = [name for name in names if rounds[name] > number]
            self.shuffle.shuffle(turn)
            order += turn
        samples = self.bench.run(order)
        self.beside.append(samples[::2])
        for name in names:
            self.pairs.setdefault(name, []).append([])
        for number, name in enumerate(order):
            before, sample, after = samples[2 * number : 2 * number + 3]
            self.pairs[name][-1].append(Pair(sample, before, after))

    def pace(self) -> Centre:
        """The latency of the reference in seconds: the fixed one, or that of the samples, clean ones if there are enough."""
        if self.fixed is not None:
            return Centre(*(3 * (self.fixed.value / 1000,)))
        clean = [[sample.wall for sample in batch if sample.clean] for batch in self.beside]
        kept = [median(batch) for batch in clean if batch]
        if len(kept) >= FEWEST:
            return centre(kept)
        return centre([median(s.cpu if self.single else s.wall for s in batch) for batch in self.beside])

    def relation(self, name: str) -> Centre:
        """The ratio of a graph to the reference."""
        return relate(self.pairs[name], self.single and name not in self.off)[0]

    def wide(self, precision: float) -> list[str]:
        """The graphs that need more batches: they have too few, or an interval in ms not narrower than `precision`."""
        pace = self.pace()
        return [
            name
            for name in self.names
            if len(self.pairs.get(name, ())) < BATCHES or not product(self.relation(name), pace).width() < precision
        ]


def measure_latency(
    graphs: Mapping[str, Path | bytes],
    device: Device,
    *,
    batch: int = 1,
    precision: float = 0.03,
    cap_s: float | None = None,
    seed: int = 0,
    pace: Reading | None = None,
    tokens: int | None = None,
    behind: Collection[str] = (),
    on: Mapping[str, Device] | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Latency]:
    """Measures the latency of `graphs` (ONNX files or their bytes) together, as the module describes.

    Each graph gets batches until its 95 % interval is narrower than `precision` of its value, or all graphs together have
    taken `cap_s` seconds (default: 5 per graph). In the latter case the note of its reading says so. At least six batches are
    made. On a quiet machine a graph of 20-500 µs takes 0.3-0.6 s. `seed` determines the order of the rounds and the inputs.
    `progress` is called with a line of text after each batch. Latencies are those of one run; if a graph takes several
    examples per run, the note says how many.

    Graphs for texts are timed with `tokens` tokens, without padding, by default those that the graph names; a note says how many.
    Those named in `behind` are timed with the last of these tokens, and a past of the others. Those named in `on` are timed on
    another device of the same machine than `device`, in turn with the others.

    `pace` is an earlier result of `reference_pace`. With it, milliseconds are the ratio times that pace, with the interval of
    the ratio. This makes measurements at different times comparable, such as those of one search.

    Raises:
        BadArtefact: a file is not an ONNX graph, or fails when it runs.
        BadOption: there is nothing to time, or a precision, cap or batch is not positive.
        DeviceLost: the device is elsewhere, and does not answer any more.
        Unsupported: no inputs can be made for a graph (`wb.hardware.device.example_inputs`).
    """
    cap_s = 5.0 * len(graphs) if cap_s is None else cap_s
    if not graphs or min(precision, cap_s, batch) <= 0:
        given = f"{len(graphs)} graphs, precision={precision}, cap_s={cap_s}, batch={batch}"
        raise BadOption(f"cannot time {given}; give at least one graph and positive numbers")
    start = time.perf_counter()
    with quiet(device):
        bench = bench_of(graphs, device, batch, seed, tokens, behind, on)
        where = {name: (on or {}).get(name, device) for name in graphs}
        off = [name for name, one in where.items() if not one.on_cpu]
        timing = Timing(list(graphs), bench, device.threads == 1, random.Random(seed), pace, off)
        todo = list(graphs)
        while todo:
            timing.batch(todo)
            done = len(timing.beside)
            if time.perf_counter() - start > cap_s and done >= FEWEST:
                break
            todo = timing.wide(precision)
            if progress is not None:
                progress(f"batch {done}: {len(graphs) - len(todo)} of {len(graphs)} graphs are narrow enough")
    now = timing.pace()
    return {name: _latency(timing.pairs[name], now, where[name], precision, bench.notes[name]) for name in graphs}


def reference_pace(device: Device, *, precision: float = 0.03, cap_s: float = 5.0) -> Reading:
    """The milliseconds of the reference graph, for `measure_latency(pace=...)`: by our runtime, beside which others are timed.

    Raises as that does.
    """
    where = device.here if device.address is None else ours_there(device)
    return measure_latency({"reference": reference_graph()}, where, precision=precision, cap_s=cap_s)[
        "reference"
    ].reading


def _latency(
    batches: Sequence[Sequence[Pair]], pace: Centre, device: Device, precision: float, run: str | None = None
) -> Latency:
    """The latency of one graph, from its samples."""
    ratio, note = relate(batches, device.threads == 1 and device.on_cpu)
    ms = product(ratio, Centre(*(1000 * value for value in pace)))
    pairs = [pair for batch in batches for pair in batch]
    clean = sum(pair.sample.clean for pair in pairs)
    notes = [text for text in (run, note) if text]
    if not ms.width() < precision:
        notes.append(f"the interval is {100 * ms.width():.1f} % wide, not under {100 * precision:g} %: time ran out")

    def reading(value: Centre, unit: str) -> Reading:
        return Reading(
            value=value.value,
            unit=unit,
            how="measured",
            interval=(value.low, value.high),
            n=len(pairs) if note else clean,
            device=device.text,
            note="; ".join(notes) or None,
        )

    cpu_ms = 1000 * median(pair.sample.cpu for pair in pairs)
    return Latency(reading(ms, "ms"), reading(ratio, "x"), clean, len(pairs) - clean, cpu_ms)
