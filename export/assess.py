"""Assessment of models and graphs: all readings that budgets are checked on, taken from exported files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.commands.progress import Count
from wb.core.measures.readings import Reading
from wb.core.system.files import scratch
from wb.data import Split
from wb.export.counting.count import count_model, model_energy
from wb.export.foreign.opening import file_size
from wb.export.graph import export
from wb.export.score import examined, score, unheard
from wb.export.timing.measure import Latency
from wb.export.timing.runs import LATENCY, measure_runs, readings_of
from wb.hardware.device import Device
from wb.models.model import Model
from wb.tasks.base import Task
from wb.tasks.known import task_of

QUICK_S = 2.0  # seconds of timing per graph during a job
FINAL_S = 8.0  # and for its final readings

Splits = Mapping[str, Split]  # by the name of the reading on each


@dataclass(frozen=True)
class Assessor:
    """Takes readings of ONNX files and of models, which it exports first; all latencies of a call are timed together.

    `pace` is the latency of the reference graph when the work began, so that latencies of different moments can be compared.
    `seed` determines the order of timing.
    """

    device: Device
    pace: Reading | None = None
    seed: int = 0

    def __call__(
        self,
        models: Mapping[str, Model],
        splits: Splits | None = None,
        *,
        cap_s: float = FINAL_S,
        timed: bool = True,
        told: Count = unheard,
    ) -> dict[str, dict[str, Reading]]:
        """For every model: size, MACs, parameters, energy, and for each split the task's metric under the split's name.

        With `timed` also latency, of networks that continue texts that of a prompt and of a token, for up to `cap_s` seconds
        per model. `told` hears how many examples of a split a graph was run on.

        Raises:
            ExportDiffers: a graph does not compute what its model does.
        """
        found: dict[str, dict[str, Reading]] = {}
        with scratch() as folder:
            paths = {name: folder / f"{i}.onnx" for i, name in enumerate(models)}
            for name, model in models.items():
                export(model, paths[name])
                found[name] = count_model(model.architecture, paths[name])
                found[name] |= self.scores(paths[name], splits or {}, task_of(model.architecture), told)
            continues = any(model.architecture.causal for model in models.values())
            for name, latencies in (self.runs(paths, continues=continues, cap_s=cap_s) if timed else {}).items():
                found[name] |= readings_of(latencies)
        return found

    def file(self, path: Path, architecture: Architecture | None, splits: Splits) -> dict[str, Reading]:
        """Size, modelled energy (if the graph has an `architecture`; a foreign graph has none), and the metric of each split.

        Raises:
            BadArtefact, BadData: as `wb.export.score.score`.
        """
        found = {"size": file_size(path)}
        if architecture is not None:
            found["energy"] = model_energy(architecture)
        return found | self.scores(path, splits, task_of(architecture))

    def scores(self, path: Path, splits: Splits, task: Task, told: Count = unheard) -> dict[str, Reading]:
        """The task's metric on every split. Raises as `file` does."""
        return {name: score(path, split, task, self.device, told=told) for name, split in splits.items()}

    def doubted(self, path: Path, split: Split, architecture: Architecture | None) -> tuple[Reading, str | None]:
        """The metric on one split, and a warning if it is near chance. Raises as `file` does."""
        return examined(path, split, task_of(architecture), self.device, own=architecture is not None)

    def runs(
        self, paths: Mapping[str, Path], *, continues: bool, cap_s: float = FINAL_S
    ) -> dict[str, dict[str, Latency]]:
        """By graph and metric the latencies of all, timed together, each graph for up to `cap_s` seconds.

        Of graphs that continue texts they are those of a prompt and of a token (`wb.export.timing.runs`).
        """
        cap_s *= len(paths)
        timed = measure_runs(paths, self.device, continues=continues, cap_s=cap_s, seed=self.seed, pace=self.pace)
        return {
            name: {metric: one for metric, one in own.items() if metric != LATENCY or not continues}
            for name, own in timed.items()
        }

    def timed(self, paths: Mapping[str, Path], *, cap_s: float = FINAL_S) -> dict[str, Latency]:
        """Latencies of graphs that do not continue texts, timed together, each for up to `cap_s` seconds."""
        return {name: own[LATENCY] for name, own in self.runs(paths, continues=False, cap_s=cap_s).items()}
