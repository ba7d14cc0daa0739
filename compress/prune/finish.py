"""The end of a pruning: fine-tuning, then final readings of all models together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wb.compress.nvit.cost import parameters_by_part
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.record import Pruning, Result
from wb.compress.prune.stages import Stage
from wb.core.commands.progress import Progress
from wb.core.measures.readings import Reading, Readings
from wb.core.statistics.verdict import worst
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.graph import export
from wb.jobs.frame.tune import signed, tuned, tuning
from wb.models.model import Model, save
from wb.training.train import Finetune

QUANTILES = 200  # points of a spectrum


@dataclass(frozen=True)
class Finish:
    """What the end of a pruning needs; finished pieces are kept in the folder `work`, `out` is the last stage's model file."""

    dense: Model
    data: Dataset
    stages: Sequence[Stage]
    work: Path
    out: Path
    teacher: Callable[[Tensor], Tensor] | None
    assess: Assessor
    progress: Progress

    def finetuned(self, number: int, model: Model, config: PruneConfig) -> Model:
        """The model of a stage, fine-tuned if that was asked for; a model already fine-tuned in `work` is read back."""
        if not config.finetune:
            return model
        what = f"fine-tuning {self.stages[number].name}".rstrip()
        tune = replace(
            self._finetune(config),
            report=lambda epoch, of, loss: self.progress(f"{what}, loss {loss:.3f}", epoch, of),
        )
        return tuned(tune, model, self.work, f"tuned-{number}", lambda: self.progress(what, 0, config.finetune))

    def signed(self, model: Model, config: PruneConfig) -> Model:
        """`model` with the history that it will have after fine-tuning."""
        return model.then(self._finetune(config).step) if config.finetune else model

    def _finetune(self, config: PruneConfig) -> Finetune:
        return Finetune(
            self.data, tuning(config, self.dense.architecture, self.data), self.teacher, config.settings.seed
        )

    def conclude(self, cut: Sequence[Model], tuned: Sequence[Model], record: Pruning) -> dict[str, Any]:
        """Reads all models together, the test split for the first time, saves them in `work` and returns the record's changes.

        Of a model as it was `cut` and as it was `tuned`, the better one on validation images is taken.

        Raises:
            ExportDiffers: a graph does not compute what its model does.
        """
        self.progress("final readings", 0, 0)
        quality, names = record.quality, [stage.name for stage in self.stages]
        before = [
            [round_ for round_ in record.rounds if round_.stage == number][-1].readings for number in range(len(names))
        ]
        worse = self._worse(tuned, before, record) if record.config.finetune else {}
        models = [cut[number] if name in worse else tuned[number] for number, name in enumerate(names)]
        splits = {quality: self.data.validation, "test": self.data.test}
        found = self.assess({"dense": self.dense} | dict(zip(names, models, strict=True)), splits)
        dense = found["dense"]
        results = []
        for number, (stage, model) in enumerate(zip(self.stages, models, strict=True)):
            readings = found[stage.name]
            judged = stage.judged(dense, readings)
            save(signed(model, readings), self.staged(number), force=True)
            # the model without the readings in its history, as it was read, so that the graph's size is that of the table
            export(model, self.staged(number, ".onnx"), force=True)
            path = self.out.with_stem(f"{self.out.stem}-{stage.name}") if stage.name else self.out
            results.append(
                Result(
                    name=stage.name or path.stem,
                    limits=tuple(one.limit for one in judged),
                    verdict=worst(judged),
                    judged=judged,
                    architecture=model.architecture,
                    parts=parameters_by_part(model.architecture),
                    before=before[number],
                    discarded={quality: worse[stage.name]} if stage.name in worse else {},
                    after={name: reading for name, reading in readings.items() if name != "test"},
                    test=readings["test"],
                    model=path.name,
                    graph=path.with_suffix(".onnx").name,
                )
            )
        final = {name: reading for name, reading in dense.items() if name != "test"}
        return {"results": tuple(results), "dense_final": final, "dense_test": dense["test"]}

    def _worse(self, tuned: Sequence[Model], before: Sequence[Readings], record: Pruning) -> dict[str, Reading]:
        """The quality on validation images of those that fine-tuning made worse, by name."""
        named = dict(zip((stage.name for stage in self.stages), tuned, strict=True))
        found = self.assess(named, {record.quality: self.data.validation}, timed=False)
        readings = zip(named, before, strict=True)
        return {
            name: after
            for name, was in readings
            if record.metric.cost(after := found[name][record.quality]) > record.metric.cost(was[record.quality])
        }

    def staged(self, number: int, suffix: str | None = None) -> Path:
        """The file in `work` where a result waits to be published: its model, or with ".onnx" its graph."""
        return self.work / f"result-{number}{suffix or self.out.suffix}"


def spectrum(scores: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """The saliency of every axis from high to low, thinned to at most `QUANTILES` points."""
    found = {}
    for name, value in scores.items():
        ordered = value.flatten().sort(descending=True).values
        index = torch.linspace(0, len(ordered) - 1, min(QUANTILES, len(ordered))).round().long()
        found[name] = tuple(ordered[index].tolist())
    return found
