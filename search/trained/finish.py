"""The end of a search from a trained model: fine-tuning, then final readings of all networks together, and the front of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.compress.depth.chain import chosen
from wb.compress.prune.stages import Stage
from wb.core.commands.progress import Progress
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.statistics.verdict import worsened, worst
from wb.data import Dataset, Split
from wb.data.batches import scored_at_once
from wb.export.assess import Assessor
from wb.export.graph import export
from wb.export.score import graded
from wb.jobs.frame.tune import signed, tuned, tuning
from wb.models.model import Model, save
from wb.search.ending.front import ranked
from wb.search.trained.images import TOKENS
from wb.search.trained.record import Result, TrainedSearch
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.refit.streams import Streams
from wb.training.train import Finetune

LOOKED_AT = 2000  # validation images that divergences are measured on


@dataclass(frozen=True)
class Finish:
    """What the end needs; finished pieces are kept in the folder `work`."""

    record: TrainedSearch
    model: Model
    data: Dataset
    work: Path
    assess: Assessor
    progress: Progress

    def finetuned(self, number: int, model: Model) -> Model:
        """A network, fine-tuned with the model as teacher if that was asked for; one that is in `work` is read back."""
        epochs = self.record.config.finetune
        if not epochs:
            return model
        what = f"fine-tuning {self.record.made[number].name}"
        tune = replace(
            self._finetune, report=lambda epoch, of, loss: self.progress(f"{what}, loss {loss:.3f}", epoch, of)
        )
        return tuned(tune, model, self.work, f"tuned-{number}", lambda: self.progress(what, 0, epochs))

    def signed(self, model: Model) -> Model:
        """`model` with the step of its fine-tuning, which is part of its file's size."""
        return model.then(self._finetune.step) if self.record.config.finetune else model

    def conclude(
        self, cut: Sequence[Model], corrected: Sequence[Model], tuned: Sequence[Model], stages: Sequence[Stage]
    ) -> dict[str, Any]:
        """Reads all networks together, saves them in `work`, and returns what changes in the record.

        Of a network as it was `corrected` and as it was `tuned`, the better one on validation images is taken.

        Raises:
            ExportDiffers: a graph does not compute what its network does.
        """
        self.progress("final readings", 0, 0)
        names = [one.name for one in self.record.made]
        quality = self.record.quality
        before = self._qualities(names, corrected)
        after = self._qualities(names, tuned) if self.record.config.finetune else before
        worse = worsened(before, after)
        models = [corrected[i] if name in worse else tuned[i] for i, name in enumerate(names)]
        splits = {quality: self.data.validation, "test": self.data.test}
        found = self.assess({"": self.model} | dict(zip(names, models, strict=True)), splits)
        for name, model in zip(names, models, strict=True):
            save(signed(model, found[name]), self.work / f"{name}.safetensors", force=True)
            # without the readings in its history, as it was read
            export(model, self.work / f"{name}.onnx", force=True)
        kept = self._front({name: found[name] for name in names})
        results = []
        for i, (name, stage) in enumerate(zip(names, stages, strict=True)):
            judged = stage.judged(found[""], found[name])
            steps = {"as cut": cut[i], "corrected": corrected[i]}
            undone = ", undone" if name in worse else ""
            steps |= {f"fine-tuned{undone}": tuned[i]} if self.record.config.finetune else {}
            results.append(
                Result(
                    name=name,
                    limits=tuple(one.limit for one in judged),
                    verdict=worst(judged),
                    judged=judged,
                    architecture=models[i].architecture,
                    divergences={what: self._divergence(model) for what, model in steps.items()},
                    before={quality: before[name]} if self.record.config.finetune else {},
                    after={metric: reading for metric, reading in found[name].items() if metric != "test"},
                    discarded={quality: worse[name]} if name in worse else {},
                    test=found[name]["test"],
                    model=f"{name}.safetensors",
                    graph=f"{name}.onnx",
                    on_front=name in kept,
                )
            )
        final = {metric: reading for metric, reading in found[""].items() if metric != "test"}
        return {"results": tuple(results), "dense_final": final, "dense_test": found[""]["test"]}

    def _qualities(self, names: Sequence[str], models: Sequence[Model]) -> dict[str, Reading]:
        """The quality of each on validation images."""
        splits = {self.record.quality: self.data.validation}
        found = self.assess(dict(zip(names, models, strict=True)), splits, timed=False)
        return {name: readings[self.record.quality] for name, readings in found.items()}

    def _front(self, readings: Mapping[str, Mapping[str, Reading]]) -> list[str]:
        """The networks on the front, told apart as far as their noise allows."""
        task = task_of(self.model.architecture)
        right: dict[str, NDArray[np.bool_]] = {
            name: graded(self.work / f"{name}.onnx", self.data.validation, task, self.assess.device).each
            for name in readings
        }
        metrics = [METRICS[self.record.quality], *(METRICS[name] for name in self.record.limited)]
        return ranked(readings, metrics, right=right).kept

    @cached_property
    def _looked_at(self) -> tuple[Split, Tensor]:
        """Validation images, and what the model answers to them."""
        split = self.data.validation
        split = chosen(split, scored_at_once(split, LOOKED_AT, TOKENS))
        return split, _answers(self.model, split)

    def _divergence(self, model: Model) -> float:
        """The mean divergence of a network's answers from the model's, on validation images."""
        split, logits = self._looked_at
        found = _answers(model, split)
        nobody = torch.zeros(logits.shape[:-1], dtype=torch.long)
        return float(task_of(self.model.architecture).effects(logits, found, nobody)["kl"].double().mean())

    @cached_property
    def _teacher(self) -> Callable[[Tensor], Tensor]:
        return self.model.network(pick_device())

    @property
    def _finetune(self) -> Finetune:
        config = self.record.config
        return Finetune(self.data, tuning(config, self.model.architecture, self.data), self._teacher, config.seed)


def _answers(model: Model, split: Split) -> Tensor:
    """What a model answers to every example; few are held as numbers at once."""
    parts = (split.inputs(slice(start, start + split.at_once)) for start in range(0, len(split), split.at_once))
    return torch.cat([Streams(model, torch.from_numpy(part)).logits() for part in parts])
