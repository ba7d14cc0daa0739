"""Candidates that climb the rungs: each is trained alone for a few epochs from the supernet's weights, and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from optuna.trial import FrozenTrial
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Requirement
from wb.core.precision import precisions
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.graph import export
from wb.export.score import score as score_graph
from wb.hardware.device import Device
from wb.models.model import Model
from wb.models.passes.base import apply
from wb.search.fidelity.choice import known, promising
from wb.search.fidelity.forecast import Climbed, forecast
from wb.search.fidelity.rungs import Rung
from wb.search.study.trials import choices_of
from wb.search.supernet import Supernet
from wb.tasks.known import task_of
from wb.training.fit import Recipe
from wb.training.train import Finetune
from wb.training.train import score as score_network

IN_FILE = {"int4", "int8"}  # precisions that exist in the exported graph alone


@dataclass(frozen=True)
class Climb:
    """Trains candidates of one supernet, rung after rung; `data` are those that rank, `recipe` gives one for so many epochs.

    Who climbs is promising in the objectives, or by the requirements, with the quality that the readings below predict. Each
    training depends on the supernet, the candidate and the epochs alone, so that one that is interrupted is done again, and none
    that is finished. `note` is called with all readings after each.
    """

    supernet: Supernet
    teacher: Callable[[Tensor], Tensor]
    data: Dataset
    device: Device
    metrics: Sequence[Metric]
    limits: Sequence[Limit]
    requirements: Sequence[Requirement]
    rungs: Sequence[Rung]
    recipe: Callable[[int], Recipe]
    seed: int
    progress: Progress
    note: Callable[[Climbed], None]

    def __call__(self, trials: Sequence[FrozenTrial], climbed: Climbed) -> Climbed:
        """The readings of all rungs, those in `climbed` among them; `trials` are all that were evaluated.

        Quality has no limit here: it grows with training.
        """
        costs = [limit for limit in self.limits if not limit.metric.quality]
        by_number = {trial.number: trial for trial in trials}
        total, done = sum(rung.candidates for rung in self.rungs), 0
        for i, rung in enumerate(self.rungs):
            below = {r.epochs: climbed.get(r.epochs, {}) for r in self.rungs[:i]}
            readings = known(trials, self.metrics, forecast(trials, self.metrics, below))
            chosen = promising(readings, self.metrics, costs, rung.candidates, self.requirements)
            for number in sorted(chosen):
                self.progress(f"training candidates alone for {_epochs(rung.epochs)}", done, total)
                done += 1
                if number not in climbed.get(rung.epochs, {}):
                    own = self._trained(by_number[number], rung.epochs)
                    climbed = {**climbed, rung.epochs: {**climbed.get(rung.epochs, {}), number: own}}
                    self.note(climbed)
        return climbed

    def _trained(self, trial: FrozenTrial, epochs: int) -> Reading:
        """The quality of a candidate after so many epochs alone."""
        space = self.supernet.space
        model = self.supernet.extract(space.decode(choices_of(space, trial)), self.data.train)
        tune = Finetune(self.data, self.recipe(epochs), self.teacher, self.seed)
        return self._score(apply(tune, model), model.architecture)

    def _score(self, model: Model, architecture: Architecture) -> Reading:
        """The quality on the images that rank: of the exported graph where precision shows in that alone, else in torch."""
        task = task_of(architecture)
        if IN_FILE.isdisjoint(precisions(architecture).values()):
            return score_network(model.network(), self.data.validation, task, torch.device("cpu"))
        with scratch() as folder:
            path = folder / "candidate.onnx"
            export(model, path)
            return score_graph(path, self.data.validation, task, self.device)


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
