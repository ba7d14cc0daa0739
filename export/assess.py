"""Readings of whole models, from their exported files: what a budget is checked on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wb.core.files import scratch
from wb.core.readings import Reading
from wb.data import Split
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.export.score import accuracy
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.model import Model

QUICK_S = 2.0  # of timing for each graph along the way
FINAL_S = 8.0  # and at the end


@dataclass(frozen=True)
class Assessor:
    """Exports models and reads size, MACs, parameters and, timed together, latency; accuracy from the files as well.

    `pace` is that of the reference graph when the work began, so that latencies of different moments compare.
    """

    device: Device
    pace: Reading | None = None
    seed: int = 0

    def __call__(
        self,
        models: Mapping[str, Model],
        splits: Mapping[str, Split] | None = None,
        *,
        cap_s: float = FINAL_S,
        timed: bool = True,
    ) -> dict[str, dict[str, Reading]]:
        """The readings of each model by metric; for every named split an accuracy under that name.

        Without `timed` there is no latency; with it, each model adds up to `cap_s` seconds.

        Raises:
            ExportDiffers: a graph does not compute what its model does.
        """
        found: dict[str, dict[str, Reading]] = {}
        with scratch() as folder:
            paths = {name: folder / f"{i}.onnx" for i, name in enumerate(models)}
            for name, model in models.items():
                export(model, paths[name])
                found[name] = count_model(model.architecture, paths[name])
                for split_name, split in (splits or {}).items():
                    found[name][split_name] = accuracy(paths[name], split.pixels(), split.labels, self.device)
            if timed:
                measured = measure_latency(
                    dict(paths), self.device, cap_s=cap_s * len(paths), seed=self.seed, pace=self.pace
                )
                for name, latency in measured.items():
                    found[name]["latency"] = latency.reading
        return found
