"""The stages of a search: supernet, evaluations, finalists. Each does what the run folder does not show as done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from optuna import Study
from optuna.trial import FrozenTrial

from wb import __version__
from wb.core.space import Choices
from wb.data import Dataset
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.jobs.record import Recorder
from wb.models.model import Step, save
from wb.search.answer.answer import answer_of
from wb.search.answer.record import Answer
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluator
from wb.search.finalists import Finish
from wb.search.helpers import Helpers
from wb.search.run import FrontPoint, Run, RunRecord
from wb.search.sampler.generate import GENERATORS
from wb.search.sampler.quality import predictor_quality
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import settle
from wb.search.study.trials import at_once, evaluated, readings_of
from wb.search.study.workers import Crew
from wb.search.supernet import Supernet, train_supernet
from wb.search.told import Teller
from wb.spaces.vit import Vit
from wb.training.fit import Recipe

FINETUNE_RATE = 2e-3  # high, because a sub-network shared its weights with all others and has far to go


@dataclass(frozen=True)
class Ground:
    """The inputs of a search, read and checked before anything is written."""

    config: SearchConfig
    run: Run
    device: Device
    data: Dataset
    space: Vit
    seeds: Sequence[Choices]  # the choices of each seed architecture
    crew: Crew
    tell: Teller


class Stages(Recorder[RunRecord]):
    """The stages in one process; `study` holds the evaluations of all processes."""

    def __init__(self, record: RunRecord, ground: Ground, study: Study) -> None:
        super().__init__(record, ground.run.record_path)
        self.ground, self.study = ground, study
        self.config, self.run, self.tell = ground.config, ground.run, ground.tell

    def finished(self) -> bool:
        """Whether the existing front belongs to the present configuration."""
        return self.run.front_path.exists() and self.record.finished == self.config.wanted

    def read_again(self) -> None:
        """Reads the record again, because other processes may have changed it."""
        self.record = self.run.read()

    def supernet(self) -> Supernet:
        """The trained supernet; it is trained if there is none."""
        ground = self.ground
        if not self.run.supernet_path.exists():
            self._train()
        supernet = Supernet.load(self.run.supernet_path, ground.space)  # on the CPU, where candidates are exported
        if not self.run.largest_path.exists():
            largest = supernet.extract(ground.space.largest())
            step = Step(name="supernet", arguments={**ground.data.origin}, seed=self.config.seed, version=__version__)
            save(largest.then(step), self.run.largest_path, force=True)
        return supernet

    def search(self, supernet: Supernet, workers: int) -> float:
        """Evaluates candidates in `workers` processes together; returns the seconds that it took."""
        start = time.perf_counter()
        wanted = max(1, min(workers, self.config.trials - len(evaluated(self.study))))
        with Helpers(self.config, self.run.folder, wanted - 1, self.tell.say):
            done = self.evaluate(supernet)
        settle(self.run.storage(self.config))
        if done < self.config.trials:
            self.tell.say(
                f"{done} of {self.config.trials} candidates were evaluated: sampler {self.config.sampler!r} finds no others in "
                "this space"
            )
        return time.perf_counter() - start

    def evaluate(self, supernet: Supernet) -> int:
        """Evaluates candidates in this process until all processes together have done enough; returns how many are done."""
        config, ground = self.config, self.ground
        self.study.sampler = make_sampler(
            config.sampler, ground.space, config.limits, config.seed, ground.crew.name, config.asked
        )
        evaluate = Evaluator(
            supernet,
            ground.data,
            ground.device,
            self.record.pace,
            "latency" in config.read,
            LatencyTable(ground.device) if config.tabulated else None,
            config.seed,
            ground.crew.timing,
        )
        with self.tell.task("evaluating candidates", config.trials) as task:

            def report(done: int, trial: FrozenTrial) -> None:
                readings = readings_of(trial)
                values = "  ".join(f"{metric.name} {readings[metric.name].value:.4g}" for metric in config.metrics)
                self.tell.update(task, f"evaluating candidates, last {values}", done)

            search = Optimization(
                self.study, ground.space, config.metrics, config.limits, evaluate, config.trials, report, ground.crew
            )
            return search()

    def finish(self, supernet: Supernet, seconds: float) -> list[FrontPoint]:
        """Makes the front from the evaluations of all processes, which took `seconds`; the record is written last."""
        config, ground = self.config, self.ground
        trials = evaluated(self.study)
        self.took({"search": seconds})
        self.note(predictors=predictor_quality(ground.space, trials, config.metrics), workers=at_once(trials))
        recipe = Recipe(epochs=config.finetune, learning_rate=FINETUNE_RATE) if config.finetune else None
        with self.tell.task("finishing") as task, self.timed("finalists"):
            finish = Finish(
                run=self.run,
                supernet=supernet,
                data=ground.data,
                device=ground.device,
                pace=self.record.pace,
                metrics=config.metrics,
                limits=config.limits,
                requirements=config.requirements,
                recipe=recipe,
                seed=config.seed,
                progress=lambda what, done, of: self.tell.update(task, what, done, of),
                say=self.tell.say,
                alone=ground.crew.timing,
            )
            points, error = finish(trials)
        self.note(table=error, finished=config.wanted, answer=self._answer(trials, points))
        return points

    def _answer(self, trials: Sequence[FrozenTrial], points: Sequence[FrontPoint]) -> Answer | None:
        """The answer to the requirements; None if there are none."""
        config, asked = self.config, self.config.asked
        if not asked.requirements:
            return None
        generators = self.study.user_attrs.get(GENERATORS, {})
        left = {point.id: point.values for point in points}
        kept = generators.get(asked.within(config.limits).text())
        with self.tell.task("answering the requirements"):
            return answer_of(asked, self.ground.space, trials, left, kept, config.seed)

    def _train(self) -> None:
        with self.tell.task("training the supernet", self.config.epochs) as task, self.timed("supernet"):
            supernet = train_supernet(
                self.ground.space,
                self.ground.data,
                self.config.recipe,
                seed=self.config.seed,
                checkpoint=self.run.checkpoint_path,
                report=lambda epoch, _, loss: self.tell.update(task, f"training the supernet, loss {loss:.3f}", epoch),
            )
            supernet.save(self.run.supernet_path)
        self.note()
        with suppress(OSError):
            self.run.checkpoint_path.unlink()
