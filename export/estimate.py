"""How long readings of a model take here, from one export, some scored images and one short timing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from wb.core.files import scratch
from wb.data import Dataset
from wb.export.assess import QUICK_S
from wb.export.graph import export
from wb.export.measure import measure_latency
from wb.export.score import logits
from wb.hardware.device import Device
from wb.models.model import Model

IMAGES = 128  # that are scored


@dataclass(frozen=True)
class ReadingTimes:
    """Seconds: of an export, of scoring an image, and of timing a graph until its interval is narrow or `QUICK_S` are over."""

    export: float
    image: float
    timing: float

    def __call__(self, graphs: int, images: int, cap_s: float | None) -> float:
        """Of reading `graphs`, each scored on `images`; and timed for up to `cap_s` seconds, where that is not None."""
        timing = 0.0 if cap_s is None else cap_s if self.timing >= QUICK_S else min(cap_s, self.timing)
        return graphs * (self.export + images * self.image + timing)


def reading_times(model: Model, data: Dataset, device: Device) -> ReadingTimes:
    """Found by reading `model` once, on some validation images."""
    with scratch() as folder:
        path = folder / "model.onnx"
        start = time.perf_counter()
        export(model, path)
        exported = time.perf_counter()
        some = data.validation.take(slice(0, IMAGES))
        logits(path, some.pixels(), device)
        scored = time.perf_counter()
        measure_latency({"model": path}, device, cap_s=QUICK_S)
        timed = time.perf_counter()
    return ReadingTimes(exported - start, (scored - exported) / len(some), timed - scored)
