"""The finalists: fine-tune and export them, time them together, keep the front, and read the test split once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch
from optuna.trial import FrozenTrial
from pydantic import JsonValue

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import METRICS, Limit, Metric
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Requirement
from wb.data import Dataset
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.hardware.runtimes.base import Way
from wb.hardware.runtimes.known import way_of
from wb.models.model import Model
from wb.search.crew.hands import Hands
from wb.search.ending.front import Ranked
from wb.search.ending.judging import Judged, Judging
from wb.search.ending.known.beside import Beside, known_networks
from wb.search.ending.pointed import Pointed, compared
from wb.search.ending.retrained import Retraining
from wb.search.ending.tabled import table_error
from wb.search.ending.tuner import Teach, Tuner, Wanted, Who
from wb.search.ending.twins import Made, lowering, mirroring
from wb.search.fidelity.choice import closest
from wb.search.fidelity.teacher import Teacher, largest_quality
from wb.search.judgement.choice import left
from wb.search.places import NOWHERE, Places
from wb.search.planning.enough import largest_first
from wb.search.results.answers import NetworkAnswers, collected
from wb.search.results.baselines import write_baselines
from wb.search.results.point import FrontPoint
from wb.search.run import Run
from wb.search.study.trials import choices_of, readings_of
from wb.search.supernet import Supernet
from wb.search.writing import depends, write_graph, write_graphs
from wb.tasks.base import Task
from wb.tasks.known import task_of
from wb.training.fit import Recipe
from wb.training.train import score as score_network

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Finish:
    """What the last stage needs. `progress` is called with each step, `say` with notes for the user.

    The largest finalist is trained with `teacher`, if there is one. The lock `alone` is held during timing. The `known` networks
    are trained and measured as finalists are, and are no part of the front. With `retrain`, those of the front are trained once
    more, on validation examples too, when all are judged.
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
    hands: Hands
    known: Mapping[str, Architecture] = field(default_factory=dict)
    mirror: bool = True  # whether finalists that were trained on mirror images have twins
    low: bool = True  # whether finalists of convolutions have twins in 8 bits
    apart: Sequence[str] = ()  # metrics that are measured in processes of their own
    most: int = 0  # the number of the last candidate
    places: Places = NOWHERE  # the devices that metrics name
    retrain: bool = False
    _written: dict[int, Mapping[Way, Path]] = field(default_factory=dict, init=False, repr=False)
    _taught: dict[int, Who] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, chosen: Mapping[int, FrozenTrial]) -> tuple[list[FrontPoint], dict[str, JsonValue] | None]:
        """The front of the chosen trials, written to the run folder, and the error of the latency table against measured graphs.

        The error is None if the table could not be stored, or has no such latencies.

        Raises:
            BudgetMissed: no finalist is within the budget.
        """
        made, who = self._export(chosen)
        self._add_twins(made)
        judged = self._judging(made, self._beside(who), self._written)
        if judged.baselines:
            write_baselines(self.run.baselines_path, judged.baselines)
        found = left(judged.readings, self.metrics, self.limits, self.requirements, judged.right)
        if not found.kept:
            raise BudgetMissed(
                "the finalists were within the budget when searched, but none is when measured again: "
                f"{closest(judged.readings, self.limits)}; allow a little more, or continue with more --trials"
            )
        points, answers = self._points(chosen, made, judged, found)
        front = {number: made[number] for number in found.kept}
        error = self._table_error(front, judged.readings)
        self._publish(front, points, answers)
        return points, error

    def _points(
        self, chosen: Mapping[int, FrozenTrial], made: Mapping[int, Made], judged: Judged, found: Ranked[int]
    ) -> tuple[list[FrontPoint], dict[int, NetworkAnswers]]:
        """The networks of the front as they are delivered, by latency, and what they answer on the test split, read once."""
        points, answers, readings = [], dict[int, NetworkAnswers](), judged.readings
        tuned, space = self.recipe is not None, self.supernet.space
        pointed = Pointed(self.run, space, self.data, self.device, self._task, self.seed, tuned=tuned)
        again = self._retraining(made, readings, found.kept, self._taught) if self.retrain else {}
        for done, number in enumerate(found.kept):
            self.progress("reading the test split", done, len(found.kept))
            trial = chosen[made[number].number]
            point, own = pointed(number, trial, *again.get(number, (made[number], readings[number])))
            answers |= {} if own is None else {number: own}
            points.append(point.model_copy(update=compared(number, found, judged.right)))
        return sorted(points, key=lambda point: point.values["latency"].value), answers

    def _table_error(
        self, front: Mapping[int, Made], readings: Mapping[int, Mapping[str, Reading]]
    ) -> dict[str, JsonValue] | None:
        """Of sums of blocks, which are timed on whole texts and in floating point, against measured graphs."""
        tabled = {n: one.architecture for n, one in front.items() if not (one.low or self._continues)}
        if self._ways[0] == "static":
            tabled = {n: architecture for n, architecture in tabled.items() if not depends(architecture)}
        table = LatencyTable(self.device)
        return table_error(tabled, readings, table, alone=self.alone, progress=self.progress, say=self.say)

    def _publish(
        self, front: Mapping[int, Made], points: list[FrontPoint], answers: Mapping[int, NetworkAnswers]
    ) -> None:
        """Removes dominated finalists, and files of an interrupted run, and makes the others the run's models."""
        kept = {f"{number}{ending}" for number in front for ending in (".onnx", ".safetensors")}
        kept |= {f"{one.number}.safetensors" for one in front.values()}  # of twins, what they were before
        kept |= {path.name for number in front for path in self._written.get(number, {}).values()}
        for path in self.run.staging.iterdir():
            if path.name not in kept:
                path.unlink()
        self.run.publish(points, collected(answers, self.data.test, self.data.classes) if answers else None)
        # Last: what is judged is not timed again as long as there is no front.
        self._timings.unlink(missing_ok=True)
        if self.retrain:
            self._retraining.clear({*self.known, *(str(one.number) for one in front.values())})

    def _export(self, chosen: Mapping[int, FrozenTrial]) -> tuple[dict[int, Made], Who]:
        """The finalists, their graphs, and who taught the last ones: the largest is trained first, and teaches."""
        space, who = self.supernet.space, Who(self.teacher)
        numbers = largest_first(chosen, lambda number: readings_of(chosen[number])["macs"].value)
        networks = {number: space.decode(choices_of(space, chosen[number])) for number in numbers}
        made, folders = {}, (self.run.staging, self.run.models, self.run.judged)
        if self.retrain:  # and others are delivered
            folders = (self.run.judged, self.run.staging, self.run.models)
        what = "fine-tuning the finalists" if self.recipe else "exporting the finalists"
        epochs, ready = partial(self.progress, "fine-tuning the largest finalist"), 0
        for done, (number, architecture) in enumerate(networks.items()):
            self.progress(what, max(done, ready), len(chosen))
            if done == 1:
                others = {str(other): Wanted(networks[other], who) for other in numbers[1:]}
                for ready, _ in enumerate(self._tuner.ahead(others, folders), start=2):
                    self.progress(what, ready, len(chosen))
            # The largest is nearly always on the front, and nothing else can be done meanwhile.
            if not done and self.retrain:
                self._tuner.twice(str(number), Wanted(architecture, who), folders, self._retraining.folders, epochs)
            model = self._tuner(str(number), Wanted(architecture, who), folders, None if done else epochs)
            path, self._taught[number] = self.run.staging / f"{number}.onnx", who
            self._written[number] = write_graphs(model, path, self._ways, self.data, self.seed)
            made[number] = Made(number, model, path, architecture)
            if self.recipe is not None and not done and len(chosen) - 1 + len(self.known) and self._is_better(model):
                who = Who(Teacher(model.network()), folders[0] / f"{number}.safetensors")
                self.say(f"finalist {number}, which is better than the supernet's largest network, teaches the others")
        return {number: made[number] for number in chosen}, who

    @cached_property
    def _tuner(self) -> Tuner:
        return Tuner(self.run, self.supernet, self.data, self.recipe, self.seed, self.hands)

    def _add_twins(self, made: dict[int, Made]) -> None:
        """Adds the twins of the finalists."""
        if self.recipe is not None and self.mirror:
            self.progress("exporting the finalists with mirror images", 0, len(made))
            flipped = [number for number, one in made.items() if self.recipe(one.architecture).flip != "off"]
            made.update([*mirroring(made, flipped, self.most, self._write)])
        of = sum(one.architecture.has_maps for one in made.values())
        if self.low and of:
            found = lowering(
                made,
                self.most,
                self.data,
                self.device,
                self.seed,
                alone=self.alone,
                say=self.say,
                anyway=self._counts_bytes,
            )
            self.progress("exporting the finalists in 8 bits", 0, of)
            for done, (number, one) in enumerate(found, start=1):
                made[number] = one
                self.progress("exporting the finalists in 8 bits", done, of)

    @property
    def _counts_bytes(self) -> bool:
        """Whether the size of files is an objective or limited."""
        limited = (*(limit.metric for limit in self.limits), *(one.metric for one in self.requirements))
        return any(metric.name == "size" for metric in (*self.metrics, *limited))

    def _is_better(self, model: Model) -> bool:
        """Whether a finalist is better on validation images than the supernet's largest network."""
        own = score_network(model.network(), self.data.validation, self._task, CPU)
        metric = METRICS[self._task.metric]
        return metric.cost(own) < metric.cost(self._largest)

    @cached_property
    def _largest(self) -> Reading:
        return largest_quality(self.supernet, self.data)

    @property
    def _task(self) -> Task:
        return task_of(self.supernet.space.largest())

    @property
    def _continues(self) -> bool:
        """Whether the networks continue texts."""
        return self.supernet.space.largest().causal

    @cached_property
    def _retraining(self) -> Retraining:
        required = [one.limit for one in self.requirements if one.limit is not None]
        return Retraining(
            run=self.run,
            tuner=self._tuner,
            data=self.data,
            metric=self._task.metric,
            limits=(*self.limits, *required),
            seed=self.seed,
            write=self._write_all,
            progress=self.progress,
            say=self.say,
        )

    def _beside(self, who: Who) -> dict[str, Beside]:
        """The known networks, made as finalists are."""
        return known_networks(self.known, who, self._tuner, self.run, self.progress, self.say, retrain=self.retrain)

    @property
    def _timings(self) -> Path:
        return self.run.judged / "timings.json"

    @property
    def _judging(self) -> Judging:
        return Judging(
            data=self.data,
            task=self._task,
            device=self.device,
            pace=self.pace,
            ways=self._ways,
            places=self.places,
            apart=self.apart,
            seed=self.seed,
            progress=self.progress,
            alone=self.alone,
            continues=self._continues,
            retrain=self.retrain,
            kept=self._timings if self.retrain else None,
        )

    @property
    def _ways(self) -> list[Way]:
        """How activations are quantized for the run's device, and for those that metrics name."""
        return [way_of(self.device.name, "int8"), *self.places.ways]

    def _write(self, model: Model, path: Path) -> None:
        """Writes the graph for the run's device."""
        write_graph(model, path, self._ways[0], self.data, self.seed)

    def _write_all(self, model: Model, path: Path) -> None:
        """Writes the graph at `path` anew, a finalist's for all devices."""
        if int(path.stem) in self._written:
            write_graphs(model, path, self._ways, self.data, self.seed)
        else:
            self._write(model, path)
