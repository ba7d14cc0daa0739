"""What networks with early exits take and how often they are right, read from their graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wb.compress.exits.record import EarlyExits, Rung
from wb.core.commands.progress import Progress
from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.core.system.files import scratch
from wb.data import Split
from wb.export.exits.graph import export_exiting
from wb.export.exits.stream import EXAMPLES, spread, stream_latency
from wb.export.exits.ways import CAP_S, answered, expected, time_ways
from wb.export.graph import export
from wb.export.score import outputs
from wb.hardware.device import Device
from wb.models.exits.module import Exiting
from wb.models.model import Model
from wb.tasks.known import task_of

ALONE = "alone"


def _silent(*_: object) -> None:
    """Nobody listens."""


class Found(NamedTuple):
    """The rungs with all readings, and those of the network without exits."""

    rungs: tuple[Rung, ...]
    without: Mapping[str, Reading]


@dataclass(frozen=True)
class Reader:
    """Takes readings on a device; `seed` determines the order of timing."""

    device: Device
    seed: int = 0
    progress: Progress = _silent

    def ways(self, model: Exiting, trunk: Model) -> dict[str, Reading]:
        """The latency of leaving by each exit always, gates included, by its name; and, `alone`, of the network without.

        All are timed together. Raises as `wb.export.timing.measure.measure_latency`.
        """
        with scratch() as folder:
            graph, alone = folder / "exits.onnx", folder / "alone.onnx"
            export_exiting(model, graph)
            export(trunk, alone)
            timed = time_ways(graph, model.record, self.device, {ALONE: alone}, seed=self.seed)
        return {name: latency.reading for name, latency in timed.items()}

    def rungs(self, every: Mapping[float | None, Exiting], trunk: Model, test: Split, record: EarlyExits) -> Found:
        """Every rung of the record with the readings of its network, by its beta, on the test split and over examples of it."""
        task = task_of(trunk.architecture)
        with scratch() as folder:
            alone = folder / "alone.onnx"
            export(trunk, alone)
            own = task.grade(outputs(alone, test, self.device), test.labels)
            paths: dict[str, Path] = {ALONE: alone}
            names: dict[float | None, str] = {}
            answers: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
            found = []
            for number, rung in enumerate(record.rungs):
                self.progress("scoring all gates", number, len(record.rungs))
                same = (beta for beta in names if alike(every[beta], every[rung.beta]))
                name = names[rung.beta] = next((names[beta] for beta in same), rung.name)
                if name not in paths:
                    paths[name] = folder / f"{number}.onnx"
                    export_exiting(every[rung.beta], paths[name])
                    answers[name] = answered(paths[name], test, self.device)
                logits, exits = answers[name]
                grades = task.grade(logits, test.labels)
                changes = {
                    "leaving": self._shares(exits, len(record.ways)),
                    "test": task.reading(grades, self.device.text),
                    "paired": Paired.of(grades.each.tolist(), own.each.tolist()),
                    "expected": expected([way.latency for way in record.ways], exits[spread(len(exits), EXAMPLES)]),
                }
                found.append(rung.model_copy(update=changes))
            self.progress("timing over real examples", 0, 0)
            timed = stream_latency(paths, test, self.device, seed=self.seed, cap_s=CAP_S * len(paths))
        means = [timed[names[rung.beta]] for rung in found]
        rungs = [
            rung.model_copy(update={"latency": mean.reading, "ratio": mean.ratio})
            for rung, mean in zip(found, means, strict=True)
        ]
        return Found(tuple(rungs), {"test": task.reading(own, self.device.text), "latency": timed[ALONE].reading})

    def _shares(self, exits: NDArray[np.int64], count: int) -> tuple[float, ...]:
        return tuple(float((exits == k).mean()) for k in range(count))


def alike(one: Exiting, other: Exiting) -> bool:
    """Whether two networks have the same gates, of the same exits."""
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
