"""`wb search --from` from start to end: library, scores, costs, choices that land on budgets, correction, fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import JsonValue

from wb import __version__
from wb.compress.nvit.compensate import refitted
from wb.compress.nvit.nvit import Pruned
from wb.compress.prune.landing import EXACT, Landing
from wb.compress.prune.stages import Stage, stages_of
from wb.core.commands.progress import Progress
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import LATENCIES, Limit, of_runs
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.job import Job
from wb.models.model import Model, Step, load, save
from wb.search.alternatives.choose import Chooser, Pick, agreement
from wb.search.alternatives.costs import Costs, costs_of, unreachable, without_all
from wb.search.alternatives.library import Library
from wb.search.alternatives.option import WHOLE
from wb.search.alternatives.scores import Choice, Scores
from wb.search.trained.budgets import Point, ladder, name_of, parse_points
from wb.search.trained.config import TrainedConfig
from wb.search.trained.finish import Finish
from wb.search.trained.images import Images, folder_of
from wb.search.trained.record import Made, Pair, TrainedSearch
from wb.training.arithmetic import quick_products


class TrainedJob(Job[TrainedSearch]):
    """One search: model, data and record; `out` is the page to write, networks come beside it.

    The library is kept in the user's cache, so that further searches from the same model have it.
    """

    record_type = TrainedSearch
    page = "wb.search.trained.report:page"

    def __init__(self, record: TrainedSearch, out: Path, progress: Progress, model: Model, data: Dataset) -> None:
        super().__init__(record, out, progress)
        self.model, self.data = model, data

    def make(self) -> None:
        """Chooses, corrects and fine-tunes networks, and reads them."""
        points = self.points()
        self.record = self.record.model_copy(update={"alternatives": len(self.chooser.divergences)})
        for number, point in enumerate(points):
            if number >= len(self.record.made):
                self._choose(point)
        if not self.record.random:
            self._add_up()
        made = self.record.made
        with self.timed("correction"), quick_products():
            corrected = [self._corrected(number, one) for number, one in enumerate(made)]
        with self.timed("fine-tuning"):
            tuned = [self._finish.finetuned(number, model) for number, model in enumerate(corrected)]
        with self.timed("final readings"):
            cut = [self.scores.model_of(self._whole(one.choice)) for one in made]
            stages = [self.stage(point) for point in points]
            changes = self._finish.conclude(cut, corrected, tuned, stages)
        self.note(**changes)

    def files(self) -> Mapping[str, Path]:
        """Networks and graphs to publish."""
        folder = self.out.parent
        return {name: folder / name for result in self.record.results for name in (result.graph, result.model)}

    @property
    def config(self) -> TrainedConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """Where latency is measured."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def assess(self) -> Assessor:
        """The assessor that reads whole models."""
        return Assessor(self.device, self.record.pace, seed=self.config.seed)

    @cached_property
    def images(self) -> Images:
        """Those that alternatives are fitted to, and those that score them."""
        return Images.of(self.data, self.config.calibration, self.config.seed)

    @cached_property
    def scores(self) -> Scores:
        """The scores of the library, which is made first where it is not there."""
        folder = folder_of(self.model, self.data, self.config)
        config = self.config
        library = Library(folder, self.model, config.align, config.seed, config.distil, config.mixers)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with self._alone(folder.with_suffix(".lock")), quick_products():
            with self.timed("library"):
                library.make(self.images.fit, lambda done, of: self.progress("fitting alternatives", done, of))
            scores = Scores(library, self.images.score, self.config.alternatives)
            with self.timed("scores"):
                scores.make(self.progress)
        return scores

    @cached_property
    def costs(self) -> dict[str, Costs]:
        """The costs of alternatives by limited metric, calibrated to the model's readings."""
        options = self.scores.options
        with self.timed("costs"):
            found = {
                metric: costs_of(metric, self.model.architecture, options, self._table(metric), self._costing(metric))
                for metric in self._limited
            }
        for metric, costs in found.items():
            costs.calibrate(self._whole({}), self.record.dense[metric].value)
        return found

    @cached_property
    def chooser(self) -> Chooser:
        """What chooses among the alternatives."""
        return Chooser(self.scores, self.costs, self.progress)

    @property
    def _finish(self) -> Finish:
        return Finish(self.record, self.model, self.data, self.work, self.assess, self.progress)

    @contextmanager
    def _alone(self, path: Path) -> Iterator[None]:
        """Waits until no other process makes the same library."""
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.progress("waiting for another process, which makes this library", 0, 0)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _whole(self, choice: Mapping[str, str]) -> dict[str, str]:
        """A choice with what is whole in it."""
        return dict.fromkeys(self.scores.library.slots, WHOLE) | dict(choice)

    def points(self) -> list[Point]:
        """The limits of each network, the dearest first.

        A front's follow from costs, and timed costs are others the next time: they are in the record once they are known.

        Raises:
            BadOption: a front whose end the model is at already.
            BudgetMissed: limits that no choice keeps, which is known before there is a library.
        """
        points = self.asked
        if self.config.front is not None:
            ((end,),) = points
            name = end.metric.name
            if not self.record.ladder:
                steps = ladder(self.config.front, end, self.record.dense[name].value, self.least[name])
                self.note(ladder=tuple(limit.value for (limit,) in steps))
            points = [(Limit(end.metric, share, relative=True),) for share in self.record.ladder]
        stages = {name_of(point): self.stage(point) for point in points}  # raises
        points.sort(key=lambda point: -min(self._share(limit) for limit in stages[name_of(point)].limits))
        for stage in stages.values() if self.config.front is None and not self.record.made else ():
            self.check_reach(stage, self.least)
        limits = {name_of(point): tuple(limit.text() for limit in point) for point in points}
        self.record = self.record.model_copy(update={"limits": limits})
        return points

    def check_reach(self, stage: Stage, least: Mapping[str, float]) -> None:
        """Raises `BudgetMissed` if a limit is below the `least` that there is, by metric; other metrics are not looked at."""
        aims = {limit.metric.name: limit.value for limit in stage.limits if limit.metric.name in least}
        if any(least[metric] > aim for metric, aim in aims.items()):
            raise BudgetMissed(unreachable(aims, least, {name: self.record.dense[name].value for name in aims}))

    @cached_property
    def least(self) -> dict[str, float]:
        """The least of each limited metric that any choice has; what is timed for it is in the latency table afterwards."""
        with self.timed("costs"):
            return {metric: self.least_of(metric) for metric in self._limited}

    def least_of(self, metric: str) -> float:
        """The least of one metric that any choice has."""
        return without_all(
            metric, self.model.architecture, self.record.dense[metric].value, self._table(metric), self._costing(metric)
        )

    @property
    def asked(self) -> list[Point]:
        """The limits that are asked for, of each network. Raises `BadOption` for a latency that the model has not."""
        continues = self.record.architecture.causal
        return [of_runs(point, continues=continues) for point in parse_points(self.config.texts)]

    @property
    def _limited(self) -> list[str]:
        return sorted({limit.metric.name for point in self.asked for limit in point})

    def _table(self, metric: str) -> LatencyTable | None:
        return LatencyTable(self.device) if metric in LATENCIES else None

    def _costing(self, metric: str) -> Callable[[int, int], None]:
        what = "timing alternatives" if metric in LATENCIES else "counting alternatives"
        return lambda done, of: self.progress(what, done, of)

    def _share(self, limit: Limit) -> float:
        """A limit as a share of the model's reading."""
        return limit.value / self.record.dense[limit.metric.name].value

    def stage(self, point: Point) -> Stage:
        """The limits of one network, as a stage of a pruning. Raises `BadOption` for those that are met already."""
        (stage,) = stages_of(point, (), 1, self.record.dense)
        return stage

    def _choose(self, point: Point) -> None:
        """Makes the choice for one network; it lands on the measured budget, but not each of a front."""
        picks: list[tuple[Model, Pick]] = []
        stage = self.stage(point)

        def cut(state: Pruned, aims: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
            with quick_products():
                pick = self.chooser(aims)
            model = self.scores.model_of(pick.choice)
            picks.append((model, pick))
            return replace(state, model=model)

        def finished(model: Model) -> Model:
            """With the history that it may have, of which "corrected": false is the longest."""
            choice = next(pick.choice for one, pick in picks if one is model)
            return self._finish.signed(model.then(self._step(name_of(point), changed(choice), corrected=False)))

        with self.timed("choices"):
            aims: Mapping[str, float] = {limit.metric.name: limit.value for limit in stage.limits}
            if self.config.front is None and not aims.keys() <= set(EXACT):
                aims, landed = Landing(cut, finished, self.assess, stage, self.model, self.progress)(Pruned(self.model))
            else:  # what is counted is as predicted
                landed = cut(Pruned(self.model), aims)
        pick = next(pick for model, pick in picks if model is landed.model)
        one = Made(
            name=name_of(point),
            aims=aims,
            choice=changed(pick.choice),
            predicted=pick.predicted,
            measured=pick.divergence.value,
        )
        self.note(made=(*self.record.made, one))

    def _add_up(self) -> None:
        """Measures how far scores add up; dearer networks that diverge more than cheaper ones take the choice of these."""
        with self.timed("choices"), quick_products():
            picks = self.chooser.random(self.config.seed)
        pairs = tuple(Pair(predicted=one.predicted, measured=one.divergence.value) for one in picks)
        made = list(self.record.made)
        for i in reversed(range(len(made) - 1)):
            better = made[i + 1]
            within = made[i].aims.keys() == better.aims.keys() and all(
                made[i].aims[m] >= aim for m, aim in better.aims.items()
            )
            if within and better.measured < made[i].measured:
                made[i] = better.model_copy(update={"name": made[i].name, "taken_from": better.name})
        self.note(random=pairs, tau=agreement(picks), made=tuple(made))

    def _corrected(self, number: int, one: Made) -> Model:
        """A choice with writers and head fitted to what the model does, if that helps; one that is in `work` is read back."""
        path = self.work / f"corrected-{number}.safetensors"
        if not path.exists():
            cut = self.scores.model_of(self._whole(one.choice))
            model, refit = refitted(
                cut,
                self.model,
                {},
                self.data,
                seed=self.config.seed,
                report=lambda done, of: self.progress(f"correcting {one.name}", done, of),
            )
            made = list(self.record.made)
            made[number] = one.model_copy(update={"refit": refit})
            self.note(made=tuple(made))
            save(model.then(self._step(one.name, one.choice, corrected=refit.kept)), path, force=True)
        return load(path)

    def _step(self, name: str, choice: Choice, *, corrected: bool) -> Step:
        """The history step of a network: its limits, and what is not whole in it."""
        config = self.config
        arguments: dict[str, JsonValue] = {
            "budget": [*self.record.limits[name]],
            "alternatives": dict(choice),
            "calibration": len(self.images.fit),
            "align": config.align,
            "distil": config.distil,
            **({"mixers": [*config.mixers]} if config.mixers else {}),
            "corrected": corrected,
            **self.data.origin,
        }
        return Step(name="search --from", arguments=arguments, seed=config.seed, version=__version__)


def changed(choice: Choice) -> dict[str, str]:
    """What is not whole in a choice."""
    return {slot: name for slot, name in choice.items() if name != WHOLE}
