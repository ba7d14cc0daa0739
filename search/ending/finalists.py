"""The finalists: fine-tune and export them, time them together, keep the front, and read the test split once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BudgetMissed, StorageFailed
from wb.core.measures.metrics import Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Requirement
from wb.core.statistics.paired import Paired
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.export.score import checked, graded, score
from wb.export.timing.blocks import estimate
from wb.export.timing.measure import Latency, measure_latency
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.models.model import Model, Step, load, save
from wb.models.passes.base import apply
from wb.search.ending.front import Ranked
from wb.search.ending.twins import twins
from wb.search.ending.words import words_alone
from wb.search.fidelity.choice import closest
from wb.search.fidelity.teacher import TEACHERS, Teacher, largest_quality, together
from wb.search.judgement.choice import left
from wb.search.results.answers import NetworkAnswers, answered, collected
from wb.search.results.baselines import Baseline, write_baselines
from wb.search.results.curves import Curves
from wb.search.results.point import FrontPoint
from wb.search.results.unsure import Unsure
from wb.search.run import Run
from wb.search.study.trials import choices_of, readings_of
from wb.search.supernet import Supernet
from wb.tasks.base import Grades, Task
from wb.tasks.known import task_of
from wb.training.fit import Recipe
from wb.training.train import Finetune
from wb.training.train import score as score_network

PRECISION = 0.03
CPU = torch.device("cpu")
Teach = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Finish:
    """What the last stage needs. `progress` is called with each step, `say` with notes for the user.

    The largest finalist is trained with `teacher`, if there is one. The lock `alone` is held during timing. The `known` networks
    are trained and measured as finalists are, and are no part of the front.
    """

    run: Run
    supernet: Supernet
    teacher: Teach | None
    data: Dataset
    device: Device
    pace: Reading
    metrics: Sequence[Metric]
    limits: Sequence[Limit]
    requirements: Sequence[Requirement]
    recipe: Callable[[Architecture], Recipe] | None
    seed: int
    progress: Progress
    say: Callable[[str], None]
    alone: Callable[[], AbstractContextManager[None]]
    known: Mapping[str, Architecture] = field(default_factory=dict)
    mirror: bool = True  # whether finalists that were trained on mirror images have twins
    most: int = 0  # the number of the last candidate

    def __call__(self, chosen: Mapping[int, FrozenTrial]) -> tuple[list[FrontPoint], dict[str, JsonValue] | None]:
        """The front of the chosen trials, written to the run folder, and the error of the latency table against measured graphs.

        The error is None if the table could not be stored.

        Raises:
            BudgetMissed: no finalist is within the budget.
        """
        models, paths, teacher = self._export(chosen)
        numbers = dict(zip(models, models, strict=True)) | self._twins(models, paths)
        readings, right = self._measure(models, paths, self._beside(teacher))
        found = left(readings, self.metrics, self.limits, self.requirements, right)
        within = found.kept
        if not within:
            raise BudgetMissed(
                "the finalists were within the budget when searched, but none is when measured again: "
                f"{closest(readings, self.limits)}; allow a little more, or continue with more --trials"
            )
        points, answers = [], {}
        for done, number in enumerate(within):
            self.progress("reading the test split", done, len(within))
            trial = chosen[numbers[number]]
            point, answers[number] = self._point(number, trial, models[number], paths[number], readings[number])
            points.append(point.model_copy(update=_compared(number, found, right)))
        points.sort(key=lambda point: point.values["latency"].value)
        error = self._table_error({number: models[number] for number in within}, readings)
        kept = {f"{number}{ending}" for number in within for ending in (".onnx", ".safetensors")}
        kept |= {f"{numbers[number]}.safetensors" for number in within}  # of twins, what they were before
        for path in self.run.staging.iterdir():  # dominated finalists, and files of an interrupted run
            if path.name not in kept:
                path.unlink()
        self.run.publish(points, collected(answers, self.data.test, self.data.classes))
        return points, error

    def _export(self, chosen: Mapping[int, FrozenTrial]) -> tuple[dict[int, Model], dict[int, Path], Teach | None]:
        """The finalists, their graphs, and who taught the last ones: the largest are trained first, and teach."""
        space, teacher = self.supernet.space, self.teacher
        models, paths, teachers = {}, {}, dict[int, Teach]()
        work = {number: readings_of(trial)["macs"].value for number, trial in chosen.items()}
        for done, number in enumerate(sorted(chosen, key=lambda number: (-work[number], number))):
            self.progress("fine-tuning the finalists" if self.recipe else "exporting the finalists", done, len(chosen))
            folders = (self.run.staging, self.run.models)
            architecture = space.decode(choices_of(space, chosen[number]))
            models[number] = self._model(str(number), architecture, folders, teacher)
            paths[number] = self.run.staging / f"{number}.onnx"
            export(models[number], paths[number], force=True)
            left = len(chosen) - done - 1 + len(self.known)
            if self.recipe is not None and done < TEACHERS and left and self._is_better(models[number]):
                teachers[number] = Teacher(models[number].network())
                teacher = together(list(teachers.values()))
        if teachers:
            self.say(f"taught by better finalists than the supernet's largest network: {', '.join(map(str, teachers))}")
        return {n: models[n] for n in chosen}, {n: paths[n] for n in chosen}, teacher

    def _twins(self, models: dict[int, Model], paths: dict[int, Path]) -> dict[int, int]:
        """Adds the twins of the finalists to both; the number of the finalist for each."""
        if self.recipe is None or not self.mirror:
            return {}
        flipped = [number for number, model in models.items() if self.recipe(model.architecture).flip != "off"]
        found = twins(models, flipped, self.most)
        for done, (twin, (_, model)) in enumerate(found.items()):
            self.progress("exporting the finalists with mirror images", done, len(found))
            models[twin], paths[twin] = model, self.run.staging / f"{twin}.onnx"
            export(model, paths[twin], force=True)
        return {twin: number for twin, (number, _) in found.items()}

    def _is_better(self, model: Model) -> bool:
        """Whether a finalist is better on validation images than the supernet's largest network."""
        own = score_network(model.network(), self.data.validation, self._task, CPU)
        return own.value > self._largest_value

    @cached_property
    def _largest_value(self) -> float:
        return largest_quality(self.supernet, self.data).value

    @property
    def _task(self) -> Task:
        return task_of(self.supernet.space.largest())

    def _beside(self, teacher: Teach | None) -> dict[str, tuple[Model, Path]]:
        """The known networks, made as finalists are, and their graphs."""
        made = {}
        for done, (name, architecture) in enumerate(self.known.items()):
            self.progress("training the known networks", done, len(self.known))
            path = self.run.beside / f"{name}.onnx"
            made[name] = self._model(name, architecture, (self.run.beside,), teacher), path
            export(made[name][0], path, force=True)
        return made

    def _model(self, name: str, architecture: Architecture, folders: Sequence[Path], teacher: Teach | None) -> Model:
        """The network as it will be delivered, from the first folder; if some folder has it fine-tuned, it is read back."""
        model = self.supernet.extract(architecture, self.data.train)
        if self.recipe is None:
            return model
        report = Curves(self.run.curves_path).of(name)
        tune = Finetune(self.data, self.recipe(architecture), teacher, self.seed, report=report)
        for path in (folder / f"{name}.safetensors" for folder in folders):
            with suppress(BadArtefact):  # a missing or damaged file is made again
                kept = load(path)
                steps = tuple(step for step in kept.history if step.name != "search")
                if kept.architecture == architecture and steps == (*model.history, tune.step):
                    return replace(kept, history=steps)
        model = apply(tune, model)
        save(model, folders[0] / f"{name}.safetensors", force=True)
        return model

    def _measure(
        self, models: Mapping[int, Model], paths: Mapping[int, Path], beside: Mapping[str, tuple[Model, Path]]
    ) -> tuple[dict[int, dict[str, Reading]], dict[int, NDArray[np.bool_]]]:
        """The readings of each finalist, and which validation images it classifies correctly.

        What is `beside` them is measured with them, and written to `baselines.json`.
        """
        self.progress("timing the finalists together", 0, 1)
        graphs = {
            **{str(number): path for number, path in paths.items()},
            **{name: path for name, (_, path) in beside.items()},
        }
        with self.alone():
            timed = measure_latency(
                graphs,
                self.device,
                precision=PRECISION,
                cap_s=2.0 * len(graphs) + 2.0,
                seed=self.seed,
                pace=self.pace,
            )
        grades = {n: graded(path, self.data.validation, self._task, self.device) for n, path in paths.items()}
        readings = {
            number: self._readings(models[number], path, timed[str(number)], grades[number])
            for number, path in paths.items()
        }
        if beside:
            found = []
            for name, (model, path) in beside.items():
                grade = graded(path, self.data.validation, self._task, self.device)
                test = score(path, self.data.test, self._task, self.device)
                found.append(Baseline(name=name, values=self._readings(model, path, timed[name], grade), test=test))
            if self.data.train.vocabulary is not None:
                found += filter(None, [words_alone(self.data, self._task, self.seed)])
            write_baselines(self.run.baselines_path, found)
        return readings, {number: grade.each for number, grade in grades.items()}

    def _readings(self, model: Model, path: Path, timed: Latency, grades: Grades) -> dict[str, Reading]:
        """What was counted and measured of one network."""
        own = {"latency": timed.reading, self._task.metric: self._task.reading(grades, self.device.here.text)}
        return count_model(model.architecture, path) | own

    def _point(
        self, name: int, trial: FrozenTrial, model: Model, path: Path, readings: Mapping[str, Reading]
    ) -> tuple[FrontPoint, NetworkAnswers]:
        """The network as `front.json` has it, and what it answers on the test split, both from one scoring; writes its model.

        It is the finalist of `trial` or, under another name, its twin.
        """
        task, split = self._task, self.data.test
        outputs = checked(path, split, task, self.device)
        test = task.reading(task.grade(outputs, split.labels), self.device.here.text)
        space = self.supernet.space
        choices = choices_of(space, trial)
        step = Step(
            name="search",
            arguments={"trial": trial.number, "choices": dict(choices), **self.data.origin},
            seed=self.seed,
            readings={**readings, "test": test},
            version=__version__,
        )
        file = self.run.staging / f"{name}.safetensors"
        save(replace(model, history=(*model.history, step)), file, force=True)
        point = FrontPoint(
            id=name,
            mirrors=trial.number if name != trial.number else None,
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
