"""Candidates that climb the rungs: each is trained alone for a few epochs from the supernet's weights, and scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
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
from wb.models.model import Model, load
from wb.models.passes.base import apply
from wb.search.crew.hands import Hands, Order
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
    hands: Hands

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
            missing = [by_number[number] for number in sorted(chosen) if number not in climbed.get(rung.epochs, {})]
            done += len(chosen) - len(missing)
            what = f"training candidates alone for {_epochs(rung.epochs)}"
            self.progress(what, done, total)
            for number, own in self._trained(missing, rung.epochs):
                done += 1
                self.progress(what, done, total)
                climbed = {**climbed, rung.epochs: {**climbed.get(rung.epochs, {}), number: own}}
                self.note(climbed)
        return climbed

    def _trained(self, trials: Sequence[FrozenTrial], epochs: int) -> Iterator[tuple[int, Reading]]:
        """The quality of each candidate after so many epochs alone, as soon as it is known; several are trained at once."""
        space, recipe, start = self.supernet.space, self.recipe(epochs), time.perf_counter()
        left = {trial.number: space.decode(choices_of(space, trial)) for trial in trials}
        while left:
            number, architecture = left.popitem()
            tune = Finetune(self.data, recipe, self.teacher, self.seed)
            model = apply(tune, self.supernet.extract(architecture, self.data.train))
            yield number, self._score(model, architecture)
            each = (time.perf_counter() - start) / (len(trials) - len(left))
            if self.hands.pay(each * len(left)):
                yield from self._together(left, recipe)

    def _together(self, left: dict[int, Architecture], recipe: Recipe) -> Iterator[tuple[int, Reading]]:
        """Takes from `left` what is trained by several processes."""
        with scratch() as folder:
            orders = {n: Order(a, recipe, folder / f"{n}.safetensors", ranks=True) for n, a in left.items()}
            for number in self.hands(orders):
                yield number, self._score(load(orders[number].out), left.pop(number))

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
