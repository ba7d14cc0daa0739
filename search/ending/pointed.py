"""What `front.json` says of the networks of a front, and what they answer on the test split, which is read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from wb import __version__
from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.data import Dataset
from wb.export.score import checked, graded
from wb.hardware.device import Device
from wb.models.model import Step, save
from wb.search.ending.front import Ranked
from wb.search.ending.twins import Made
from wb.search.results.answers import NetworkAnswers, answered
from wb.search.results.point import FrontPoint
from wb.search.results.unsure import Unsure
from wb.search.run import Run
from wb.search.study.trials import choices_of, readings_of
from wb.search.supernet import ElasticSpace
from wb.tasks.base import Task


@dataclass(frozen=True)
class Pointed:
    """Makes points of the networks that a run delivers; `tuned` says whether they are others than when they were searched."""

    run: Run
    space: ElasticSpace
    data: Dataset
    device: Device
    task: Task
    seed: int
    tuned: bool

    def __call__(
        self, name: int, trial: FrozenTrial, made: Made, readings: Mapping[str, Reading]
    ) -> tuple[FrontPoint, NetworkAnswers | None]:
        """The network as `front.json` has it, and what it answers on the test split, both from one scoring; writes its model.

        It is the finalist of `trial` or, under another name, its twin.
        """
        test, answers = self._tested(made.path)
        choices = choices_of(self.space, trial)
        step = Step(
            name="search",
            arguments={"trial": trial.number, "choices": dict(choices), **self.data.origin},
            seed=self.seed,
            readings={**readings, "test": test},
            version=__version__,
        )
        file = self.run.staging / f"{name}.safetensors"
        save(replace(made.model, history=(*made.model.history, step)), file, force=True)
        point = FrontPoint(
            id=name,
            mirrors=trial.number if made.mirrored else None,
            lowers=trial.number if made.low else None,
            quality=self.task.metric,
            values=dict(readings),
            test=test,
            searched=readings_of(trial)[self.task.metric] if self.tuned else None,
            choices=dict(choices),
            architecture=made.architecture.model_dump(mode="json"),
            model=f"{self.run.models.name}/{file.name}",
            onnx=f"{self.run.models.name}/{made.path.name}",
        )
        return point, answers

    def _tested(self, path: Path) -> tuple[Reading, NetworkAnswers | None]:
        """The task's metric on the test split and, where answers are classes, what a network answers there."""
        task, split, text = self.task, self.data.test, self.device.scorer.text
        if not self.data.classes:
            return task.reading(graded(path, split, task, self.device), text), None
        outputs = checked(path, split, task, self.device)
        return task.reading(task.grade(outputs, split.labels), text), answered(task.votes(outputs), split.labels)


def compared(number: int, found: Ranked[int], right: Mapping[int, NDArray[Any]]) -> dict[str, object]:
    """What a network's point says of others: those that it stands for, and one that it may be no better than."""
    than = found.unsure.get(number)
    unsure = None
    if than is not None and right[number].dtype == np.bool_:  # else there is nothing to count
        unsure = Unsure(than=than, paired=Paired.of(right[number].tolist(), right[than].tolist()))
    return {"alike": found.alike.get(number, ()), "unsure": unsure}
