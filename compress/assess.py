"""Readings of whole models, from their exported files: what a budget is checked on."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wb.core.errors import BadOption
from wb.core.metrics import Limit
from wb.core.readings import Reading, Readings
from wb.data import Split
from wb.export.count import count_model
from wb.export.graph import export
from wb.export.measure import measure_latency
from wb.export.score import accuracy
from wb.hardware.device import Device
from wb.models.model import Model

Verdict = Literal["met", "within noise", "missed"]
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
        with tempfile.TemporaryDirectory(prefix="wb-") as folder:
            paths = {name: Path(folder) / f"{i}.onnx" for i, name in enumerate(models)}
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


def absolute(limits: Iterable[Limit], dense: Readings) -> tuple[Limit, ...]:
    """The limits in the units of readings; those that `dense` meets already are left out.

    Raises:
        BadOption: all are met already.
    """
    limits = tuple(limits)
    found = [
        Limit(limit.metric, limit.value * dense[limit.metric.name].value) if limit.relative else limit
        for limit in limits
    ]
    left = tuple(limit for limit in found if limit.excess(dense[limit.metric.name]) > 0)
    if not left:
        met = ", ".join(f"{limit.metric.name} is {dense[limit.metric.name].text()}" for limit in found)
        raise BadOption(f"the budget is met already: {met}; nothing was pruned. Give a lower budget")
    return left


def excesses(
    limits: Sequence[Limit], shares: Collection[str], first: Readings, dense: Readings, found: Readings
) -> dict[str, tuple[float, float]]:
    """By metric, how far a reading is over its limit, as a share of it, and how far the low end of its interval is.

    `first` is what the dense model had when the limits were set, `dense` what it has where `found` was read: a latency whose
    limit is a share of the dense one's is compared by the ratio of the two, so that the machine's drift cancels.
    """
    over = {}
    for limit in limits:
        name = limit.metric.name
        drift = dense[name].value / first[name].value if name in shares and name == "latency" else 1.0
        reading = found[name]
        low = reading.interval[0] if reading.interval else reading.value
        over[name] = (reading.value / drift / limit.value - 1, low / drift / limit.value - 1)
    return over


def verdict(over: Mapping[str, tuple[float, float]]) -> Verdict:
    """`met`; `within noise` where a reading is over its limit, but not for sure; `missed` where it is."""
    if all(value <= 0 for value, _ in over.values()):
        return "met"
    return "within noise" if all(low <= 0 for _, low in over.values()) else "missed"
