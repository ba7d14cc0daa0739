"""Estimating how long the readings of a model take on this machine, from one export, some scored images and a short timing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.assess import QUICK_S
from wb.export.graph import export
from wb.export.score import outputs
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.model import Model

IMAGES = 128  # scored for the estimate


@dataclass(frozen=True)
class ReadingTimes:
    """Seconds for an export, for scoring an image, and for timing a graph (until its interval is narrow, at most `QUICK_S`)."""

    export: float
    image: float
    timing: float

    def __call__(self, graphs: int, images: int, cap_s: float | None) -> float:
        """Seconds for reading `graphs`, each scored on `images`, and timed for up to `cap_s` seconds unless that is None."""
        timing = 0.0 if cap_s is None else cap_s if self.timing >= QUICK_S else min(cap_s, self.timing)
        return graphs * (self.export + images * self.image + timing)


def reading_times(model: Model, data: Dataset, device: Device) -> ReadingTimes:
    """Measures the times by reading `model` once, on some validation images."""
    return times_of(lambda path: export(model, path), data, device, QUICK_S)


def times_of(
    write: Callable[[Path], object], data: Dataset, device: Device, cap_s: float | None = None
) -> ReadingTimes:
    """Measures the times for the graph that `write` writes; it is timed for up to `cap_s` seconds, unless that is None."""
    with scratch() as folder:
        path = folder / "model.onnx"
        start = time.perf_counter()
        write(path)
        exported = time.perf_counter()
        some = data.validation.take(slice(0, IMAGES))
        outputs(path, some, device)
        scored = time.perf_counter()
        measure_latency({"model": path}, device, cap_s=cap_s)
        timed = time.perf_counter()
    return ReadingTimes(exported - start, (scored - exported) / len(some), timed - scored)
