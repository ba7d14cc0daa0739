"""The clock: timing samples of a graph, detecting disturbed ones, and measuring how noisy the machine is.

Limits: in a virtual machine, CPU time includes time that the host takes away, so such disturbances go undetected. They affect
neighbouring samples alike, and `wb.export.timing.measure` uses ratios of neighbours. Only the calling thread is watched:
with more threads, another one can be held up unnoticed.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from wb.core.errors import BadArtefact, BadOption, WbError
from wb.export.timing.reference import reference_graph
from wb.hardware.device import Device, example_inputs, parse_device, pinned, run_note, session, usable_cores
from wb.hardware.remote.runner import Timed
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.failures import said
from wb.hardware.runtimes.known import OURS

SAMPLE_S = 0.0015
CLEAN = 0.97  # CPU time over wall time, above which a sample is clean


@dataclass(frozen=True)
class Sample:
    """Seconds per run, averaged over some runs back to back; `clean` if this thread had the processor all the time.

    `wall` is wall time; `cpu` is the CPU time of the calling thread, which computes or spins while the graph runs.
    """

    wall: float
    cpu: float
    clean: bool


class Probe(Timed):
    """A graph loaded on a device, ready for timing samples; for another runtime than ours it is converted and compared first.

    Raises:
        BadArtefact, Unsupported: as `session`, `example_inputs` and `converted` do, or when the graph fails while it runs.
    """

    def __init__(
        self,
        graph: Path | bytes,
        device: Device,
        batch: int = 1,
        seed: int = 0,
        tokens: int | None = None,
        *,
        behind: bool = False,
    ) -> None:
        self.graph = graph
        self.judged = device.on_cpu and cpu_clock_s() < SAMPLE_S / 50
        self._found: str | None = None

        def make() -> tuple[Any, dict[str, NDArray[Any]]]:
            loaded = session(graph, device)
            return loaded, example_inputs(loaded, batch, seed, tokens, behind=behind)

        if device.runtime != OURS:
            conversion = converted(graph, device, *make())
            self._found, self.graph = conversion.note, conversion.graph

            def make() -> tuple[Any, dict[str, NDArray[Any]]]:
                return conversion.load(), {name: values.copy() for name, values in conversion.inputs.items()}

        super().__init__(make, SAMPLE_S)

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """What it is run on."""
        return dict(self._inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the graph's first input; () if it has no inputs."""
        return next((value.shape for value in self._inputs.values()), ())

    @property
    def note(self) -> str | None:
        """What one run takes (`wb.hardware.device.run_note`), and how another runtime's outputs compare."""
        return "; ".join(filter(None, (run_note(self._inputs), self._found))) or None

    def renew(self) -> None:
        """As `Timed.renew`. Raises as the class does."""
        try:
            super().renew()
        except WbError:
            raise
        except Exception as error:  # the runtime's exceptions have no common base class
            what = "the graph in memory" if isinstance(self.graph, bytes) else self.graph
            shapes = {name: value.shape for name, value in self._inputs.items()}
            raise BadArtefact(f"{what} loads but fails on inputs {shapes}; export it again ({said(error)})") from error

    def sample(self) -> Sample:
        """One untimed run, then `runs` timed ones."""
        return self.judge(*self.take())

    def judge(self, wall: float, cpu: float) -> Sample:
        """A sample of these seconds, which was taken here."""
        return Sample(wall, cpu, not self.judged or cpu > CLEAN * wall)


def cpu_clock_s() -> float:
    """Resolution in seconds of the CPU clock that detects disturbed samples (10-16 ms on Windows: nothing is rejected)."""
    return time.get_clock_info("thread_time").resolution


@contextmanager
def quiet(device: Device) -> Iterator[None]:
    """Disables garbage collection within the block, and pins the process to the device's cores if it names any."""
    was = gc.isenabled()
    gc.disable()
    try:
        with pinned(device.here.cores):
            yield
    finally:
        if was:
            gc.enable()


class Noise(BaseModel):
    """How noisy timing is on this machine, measured with the reference graph.

    `cv_raw` and `cv_clean` are standard deviation over mean (coefficient of variation) of all samples and of the clean ones.
    `disturbed` is the share of the others. `load` is the mean number of runnable processes in the last minute (None if
    unknown).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int
    reference_ms: float
    cv_raw: float
    cv_clean: float | None
    disturbed: float
    load: float | None
    wall_resolution_s: float
    cpu_resolution_s: float
    cores: int
    verdict: str


def noise(seconds: float = 2.0, device: Device | None = None) -> Noise:
    """Samples the reference graph for `seconds` on `device` (default: the CPU, one thread).

    Raises:
        BadOption: `seconds` is not positive.
    """
    if not seconds > 0:
        raise BadOption(f"seconds={seconds} is no time to sample; give a positive number, such as 2")
    device = device or parse_device()
    probe = Probe(reference_graph(), device)
    samples: list[Sample] = []
    end = time.perf_counter() + seconds
    with quiet(device):
        while time.perf_counter() < end or len(samples) < 10:
            samples.append(probe.sample())
    return describe(samples, device, probe.judged)


def describe(samples: list[Sample], device: Device, judged: bool = True) -> Noise:
    """Summarises `samples`; `judged` says whether the CPU clock was fine enough to detect disturbed ones."""
    wall = np.array([sample.wall for sample in samples])
    clean = np.array([sample.wall for sample in samples if sample.clean])
    cv_clean = float(clean.std() / clean.mean()) if len(clean) else None
    disturbed = 1 - len(clean) / len(samples)
    return Noise(
        samples=len(samples),
        reference_ms=1000 * float(np.median(clean if len(clean) else wall)),
        cv_raw=float(wall.std() / wall.mean()),
        cv_clean=cv_clean,
        disturbed=disturbed,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,  # not on Windows
        wall_resolution_s=time.get_clock_info("perf_counter").resolution,
        cpu_resolution_s=cpu_clock_s(),
        cores=len(usable_cores()),
        verdict=_verdict(cv_clean, disturbed, judged),
    )


def _verdict(cv_clean: float | None, disturbed: float, judged: bool) -> str:
    """A sentence on how well latencies can be measured now."""
    if not judged:
        return "disturbances cannot be told apart here: keep the machine idle while latency is measured"
    if cv_clean is None or disturbed > 0.8:
        return (
            "busy: too few undisturbed samples, latency will be told from CPU time; stop other work for better figures"
        )
    if disturbed > 0.2 or cv_clean > 0.1:
        return "noisy: latency can be measured, but takes longer and its intervals may stay wide"
    return "quiet: latency intervals under 3 % are within reach"
