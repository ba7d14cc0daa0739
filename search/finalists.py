"""The finalists: fine-tune and export them, time them together, keep the front, and read the test split once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BudgetMissed, StorageFailed
from wb.core.metrics import Limit, Metric
from wb.core.progress import Progress
from wb.core.readings import Reading
from wb.core.statistics.paired import Paired
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.export.score import checked, graded
from wb.export.timing.blocks import estimate
from wb.export.timing.measure import measure_latency
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.models.model import Model, Step, load, save
from wb.models.passes import apply
from wb.search.choice import closest
from wb.search.front import Ranked, ranked
from wb.search.results.answers import NetworkAnswers, answered, collected
from wb.search.results.curves import Curves
from wb.search.results.unsure import Unsure
from wb.search.run import FrontPoint, Run
from wb.search.study.trials import choices_of, readings_of
from wb.search.supernet import Supernet
from wb.tasks.base import Task
from wb.tasks.known import task_of
from wb.training.fit import Recipe
from wb.training.train import Finetune

PRECISION = 0.03


@dataclass(frozen=True)
class Finish:
    """What the last stage needs. `progress` is called with each step, `say` with notes for the user.

    The lock `alone` is held during timing.
    """

    run: Run
    supernet: Supernet
    teacher: Callable[[Tensor], Tensor]
    data: Dataset
    device: Device
    pace: Reading
    metrics: Sequence[Metric]
    limits: Sequence[Limit]
    recipe: Recipe | None
    seed: int
    progress: Progress
    say: Callable[[str], None]
    alone: Callable[[], AbstractContextManager[None]]

    def __call__(self, chosen: Mapping[int, FrozenTrial]) -> tuple[list[FrontPoint], dict[str, JsonValue] | None]:
        """The front of the chosen trials, written to the run folder, and the error of the latency table against measured graphs.

        The error is None if the table could not be stored.

        Raises:
            BudgetMissed: no finalist is within the budget.
        """
        models, paths = self._export(chosen)
        readings, right = self._measure(models, paths)
        found = ranked(readings, self.metrics, self.limits, right=right)
        within = found.kept
        if not within:
            raise BudgetMissed(
                "the finalists were within the budget when searched, but none is when measured again: "
                f"{closest(readings, self.limits)}; allow a little more, or continue with more --trials"
            )
        points, answers = [], {}
        for done, number in enumerate(within):
            self.progress("reading the test split", done, len(within))
            point, answers[number] = self._point(chosen[number], models[number], paths[number], readings[number])
            points.append(point.model_copy(update=_compared(number, found, right)))
        points.sort(key=lambda point: point.values["latency"].value)
        error = self._table_error({number: models[number] for number in within}, readings)
        for path in self.run.staging.iterdir():  # dominated finalists, and files of an interrupted run
            if path.stem not in map(str, within):
                path.unlink()
        self.run.publish(points, collected(answers, self.data.test, self.data.classes))
        return points, error

    def _export(self, chosen: Mapping[int, FrozenTrial]) -> tuple[dict[int, Model], dict[int, Path]]:
        space = self.supernet.space
        models, paths = {}, {}
        for done, (number, trial) in enumerate(chosen.items()):
            self.progress("fine-tuning the finalists" if self.recipe else "exporting the finalists", done, len(chosen))
            models[number] = self._model(number, space.decode(choices_of(space, trial)))
            paths[number] = self.run.staging / f"{number}.onnx"
            export(models[number], paths[number], force=True)
        return models, paths

    @property
    def _task(self) -> Task:
        return task_of(self.supernet.space.largest())

    def _model(self, number: int, architecture: Architecture) -> Model:
        """The finalist as it will be delivered; if an interrupted run fine-tuned it already, it is read back."""
        model = self.supernet.extract(architecture, self.data.train)
        if self.recipe is None:
            return model
        report = Curves(self.run.curves_path).of(str(number))
        tune = Finetune(self.data, self.recipe, self.teacher, self.seed, report=report)
        name = f"{number}.safetensors"
        for path in (self.run.staging / name, self.run.models / name):
            with suppress(BadArtefact):  # a missing or damaged file is made again
                kept = load(path)
                steps = tuple(step for step in kept.history if step.name != "search")
                if kept.architecture == architecture and steps == (*model.history, tune.step):
                    return replace(kept, history=steps)
        model = apply(tune, model)
        save(model, self.run.staging / name, force=True)
        return model

    def _measure(
        self, models: Mapping[int, Model], paths: Mapping[int, Path]
    ) -> tuple[dict[int, dict[str, Reading]], dict[int, NDArray[np.bool_]]]:
        """The readings of each finalist, and which validation images it classifies correctly."""
        self.progress("timing the finalists together", 0, 1)
        with self.alone():
            timed = measure_latency(
                {str(number): path for number, path in paths.items()},
                self.device,
                precision=PRECISION,
                cap_s=2.0 * len(paths) + 2.0,
                seed=self.seed,
                pace=self.pace,
            )
        grades = {n: graded(path, self.data.validation, self._task, self.device) for n, path in paths.items()}
        readings = {
            number: count_model(models[number].architecture, path)
            | {
                "latency": timed[str(number)].reading,
                self._task.metric: self._task.reading(grades[number], self.device.text),
            }
            for number, path in paths.items()
        }
        return readings, {number: grade.each for number, grade in grades.items()}

    def _point(
        self, trial: FrozenTrial, model: Model, path: Path, readings: Mapping[str, Reading]
    ) -> tuple[FrontPoint, NetworkAnswers]:
        """The network as `front.json` has it, and what it answers on the test split, both from one scoring; writes its model."""
        task, split = self._task, self.data.test
        outputs = checked(path, split, task, self.device)
        test = task.reading(task.grade(outputs, split.labels), self.device.text)
        space = self.supernet.space
        choices = choices_of(space, trial)
        step = Step(
            name="search",
            arguments={"trial": trial.number, "choices": dict(choices), **self.data.origin},
            seed=self.seed,
            readings={**readings, "test": test},
            version=__version__,
        )
        file = self.run.staging / f"{trial.number}.safetensors"
        save(replace(model, history=(*model.history, step)), file, force=True)
        point = FrontPoint(
            id=trial.number,
            quality=self._task.metric,
            values=dict(readings),
            test=test,
            searched=None if self.recipe is None else readings_of(trial)[self._task.metric],
            choices=dict(choices),
            architecture=model.architecture.model_dump(mode="json"),
            model=f"{self.run.models.name}/{file.name}",
            onnx=f"{self.run.models.name}/{path.name}",
        )
        return point, answered(task.votes(outputs), split.labels)

    def _table_error(
        self, models: Mapping[int, Model], readings: Mapping[int, Mapping[str, Reading]]
    ) -> dict[str, JsonValue] | None:
        """The error of the latency table against whole graphs, for each network and in the median."""
        table = LatencyTable(self.device)
        rows: list[JsonValue] = []
        errors = []
        for done, (number, model) in enumerate(models.items()):
            self.progress("checking the per-block latency table", done, len(models))
            try:
                with self.alone():
                    estimated = estimate(model.architecture, table).value
            except StorageFailed as error:  # the front is worth more than the check of the table
                self.say(f"the per-block latency table was not checked: {error}")
                return None
            measured = readings[number]["latency"].value
            errors.append(abs(estimated - measured) / measured)
            rows.append({"id": number, "estimated_ms": estimated, "measured_ms": measured})
        return {"median_relative_error": float(np.median(errors)), "max_relative_error": max(errors), "networks": rows}


def _compared(number: int, found: Ranked[int], right: Mapping[int, NDArray[np.bool_]]) -> dict[str, object]:
    """What a network's point says of others: those that it stands for, and one that it may be no better than."""
    than = found.unsure.get(number)
    unsure = None if than is None else Unsure(than=than, paired=Paired.of(right[number].tolist(), right[than].tolist()))
    return {"alike": found.alike.get(number, ()), "unsure": unsure}
