"""Evaluation of a candidate: extract the sub-network, export it, check it, time it, score it. All readings are of the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.score import score
from wb.export.timing.blocks import estimate
from wb.export.timing.footprint import costs_of
from wb.export.timing.runs import LATENCY, measure_runs, readings_of
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.hardware.runtimes.known import way_of
from wb.search.places import NOWHERE, Places, Written
from wb.search.supernet import Supernet
from wb.search.writing import write_graphs
from wb.tasks.known import task_of

LITTLE_S = 0.001  # a shorter wait is not recorded
PRECISION, CAP_S = 0.05, 0.8  # of timing a candidate, and its seconds; finalists are timed again, longer and together


@dataclass
class Stopwatch:
    """Wall seconds by phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Adds the time of the block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


@dataclass(frozen=True)
class Evaluation:
    """The readings of one candidate by metric name, and the seconds of its evaluation by phase."""

    readings: dict[str, Reading]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Evaluator:
    """Evaluates architectures of one supernet on one data set and device; candidates are independent of each other.

    `pace` is the latency of the reference graph when the run began; it makes latencies comparable although the machine drifts.
    With `table`, latency is the sum over the blocks' timings, marked as predicted, and whole graphs are not timed. The lock
    `alone` is held during timing, and during scoring where that is done on the device, so that only one worker
    is at it; waiting for it is a phase of its own. Metrics of `apart` are measured in a process of its own. Metrics that name
    devices are measured at `places`.
    """

    supernet: Supernet
    data: Dataset
    device: Device
    pace: Reading | None = None
    latency: bool = True
    table: LatencyTable | None = None
    seed: int = 0
    alone: Callable[[], AbstractContextManager[None]] = nullcontext
    apart: Collection[str] = ()
    places: Places = NOWHERE

    def __call__(self, architecture: Architecture) -> Evaluation:
        """Evaluates one architecture; its graph is not kept.

        Raises:
            ExportDiffers: the exported graph does not compute what the sub-network does.
        """
        watch = Stopwatch()
        with scratch() as folder:
            path = folder / "candidate.onnx"
            with watch.phase("extract"):
                model = self.supernet.extract(architecture, self.data.train)
            with watch.phase("export"):
                ways = [way_of(self.device.name, "int8"), *self.places.ways]
                written = write_graphs(model, path, ways, self.data, self.seed)
            readings = count_model(model.architecture, path)
            if self.table is not None or self.latency:
                readings |= self._latency(architecture, path, watch)
            if self.places.devices:
                with self._waited(watch), watch.phase("time elsewhere"):
                    here = {"candidate": Written(architecture, written)}
                    found = self.places.latencies(here, precision=PRECISION, cap_s=CAP_S, seed=self.seed)
                    readings |= found["candidate"]
            if self.apart:
                with self._waited(watch), watch.phase("load"):
                    readings |= costs_of(path, self.device, self.apart, processes=1)
            with self._waited(watch) if self.device.scores else nullcontext(), watch.phase("score"):
                task = task_of(architecture)
                readings[task.metric] = score(path, self.data.validation, task, self.device)
        return Evaluation(readings, watch.seconds)

    def _latency(self, architecture: Architecture, path: Path, watch: Stopwatch) -> dict[str, Reading]:
        with self._waited(watch), watch.phase("time"):
            if self.table is not None:
                return {LATENCY: estimate(architecture, self.table)}
            found = measure_runs(
                {"candidate": path},
                self.device,
                continues=architecture.causal,
                precision=PRECISION,
                cap_s=CAP_S,
                seed=self.seed,
                pace=self.pace,
            )
            return readings_of(found["candidate"])

    @contextmanager
    def _waited(self, watch: Stopwatch) -> Iterator[None]:
        """Holds the lock `alone`; waiting for it is a phase, unless it is a moment."""
        with ExitStack() as stack:
            start = time.perf_counter()
            stack.enter_context(self.alone())
            waited = time.perf_counter() - start
            if waited >= LITTLE_S:
                watch.seconds["wait"] = watch.seconds.get("wait", 0.0) + waited
            yield
