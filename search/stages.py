"""The first stages of a search: supernet and evaluations. Each does what the run folder does not show as done."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property

from optuna import Study
from optuna.trial import FrozenTrial

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.system.files import clear
from wb.data import Dataset
from wb.export.timing.table import LatencyTable
from wb.jobs.frame.record import Recorder
from wb.models.model import Step, save
from wb.search.beginning.ground import Ground
from wb.search.beginning.recipes import tuning_recipe
from wb.search.crew.helpers import Helpers
from wb.search.crew.joining import files_of
from wb.search.crew.on_ray import OnRay
from wb.search.crew.proposing import Proposer
from wb.search.crew.shelf import Shelf
from wb.search.evaluate import Evaluator
from wb.search.fidelity.yardstick import ranking
from wb.search.results.curves import SUPERNET, Curves
from wb.search.run import RunRecord
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import settle, without_password
from wb.search.study.trials import busy, evaluated, readings_of
from wb.search.supernet import Supernet
from wb.search.together.stage import SupernetTraining, trained
from wb.training.recipes.recipe import Recipe


class Stages(Recorder[RunRecord]):
    """The stages in one process; `study` holds the evaluations of all processes."""

    def __init__(self, record: RunRecord, ground: Ground, study: Study) -> None:
        super().__init__(record, ground.run.record_path)
        self.ground, self.study = ground, study
        self.config, self.run, self.tell = ground.config, ground.run, ground.tell

    @cached_property
    def ranking(self) -> Dataset:
        """The data that supernet and candidates see: some training images are held back to rank with, of many a part is seen."""
        return ranking(self.ground.data, self.record.held_back, self.record.part)

    def finished(self) -> bool:
        """Whether the existing front belongs to the present configuration."""
        return self.run.front_path.exists() and self.record.finished == self.config.wanted

    def read_again(self) -> None:
        """Reads the record again, because other processes may have changed it."""
        self.record = self.run.read()
        if self.record.plan is not None:  # another process may have ended the search for want of time
            known = self.record.config
            self.config = self.config.model_copy(
                update={name: getattr(known, name) for name in ("trials", "finetune", "finalists")}
            )

    def supernet(self) -> Supernet:
        """The trained supernet; it is trained if there is none."""
        ground = self.ground
        if not self.run.supernet_path.exists():
            self._train()
        supernet = Supernet.load(self.run.supernet_path, ground.space)  # on the CPU, where candidates are exported
        if not self.run.largest_path.exists():
            largest = supernet.extract(ground.space.largest(), ground.data.train)
            start = self.config.start
            arguments = {**ground.data.origin, **({} if start is None else {"from": start.key})}
            step = Step(name="supernet", arguments=arguments, seed=self.config.seed, version=__version__)
            save(largest.then(step), self.run.largest_path, force=True)
        return supernet

    def search(self, supernet: Supernet, workers: int, ray: str | None = None) -> float:
        """Evaluates candidates in `workers` processes together; returns the seconds that it took.

        All but this one are on the cluster at the address `ray`, if there is one.
        """
        start = time.perf_counter()
        wanted = max(1, min(workers, self.config.trials - len(evaluated(self.study))))
        if self.config.storage is not None:
            self._offer()
        with self._helpers(wanted, ray):
            done = self.evaluate(supernet, wanted)
        settle(self.run.storage(self.config))
        if done < self.config.trials and not self._late(evaluated(self.study)):
            self.tell.say(
                f"{done} of {self.config.trials} candidates were evaluated: sampler {self.config.sampler!r} finds no others in "
                "this space"
            )
        return time.perf_counter() - start

    def _helpers(self, workers: int, ray: str | None) -> AbstractContextManager[None]:
        if ray is None:
            return Helpers(self.config, self.run.folder, workers - 1, workers, self.tell.say)
        reachable = self.config.model_copy(update={"storage": self.run.storage(self.config)})
        return OnRay(ray, reachable, self.run, workers - 1, self.tell.say)

    def _offer(self) -> None:
        """Puts what workers elsewhere need into the storage, and says how they join."""
        url = self.run.storage(self.config)
        Shelf(url, self.record.study).put(files_of(self.run))
        place = shlex.quote(without_password(url))
        self.tell.say(f"workers on other machines join with: wb search --join {self.record.study} --storage {place}")

    def evaluate(self, supernet: Supernet, workers: int = 1) -> int:
        """Evaluates candidates in this process until all processes together have done enough; returns how many are done.

        `workers` is how many processes there are.
        """
        config, ground = self.config, self.ground
        self.study.sampler = sampler = make_sampler(
            config.sampler, ground.space, config.limits, config.seed, ground.crew.name, config.asked, workers
        )
        batched = sampler.batched
        evaluate = Evaluator(
            supernet,
            self.ranking,
            ground.device,
            self.record.pace,
            config.timed,
            LatencyTable(ground.device) if config.tabulated else None,
            config.seed,
            ground.crew.timing,
            config.apart,
            ground.places,
        )
        with self.tell.task("evaluating candidates", config.trials) as task:

            def report(done: int, trial: FrozenTrial) -> None:
                readings = readings_of(trial)
                values = "  ".join(f"{metric.name} {readings[metric.name].value:.4g}" for metric in config.metrics)
                self.tell.update(task, f"evaluating candidates, last {values}", done)

            search = Optimization(
                self.study,
                ground.space,
                config.metrics,
                config.limits,
                evaluate,
                config.trials,
                report,
                ground.crew,
                self._late,
                self.tell.say,
                None if batched is None else Proposer(self.study, batched, ground.crew, workers),
            )
            return search()

    def _tuning(self, epochs: int, network: Architecture | None = None) -> Recipe:
        """How a candidate, or that finalist, is trained alone."""
        return tuning_recipe(self.config, self.ground.space, self.ground.data, epochs, network)

    def _late(self, done: Sequence[FrozenTrial]) -> bool:
        """Whether a search that was given a time begins no further trial after those that are done."""
        plan = self.record.plan
        if plan is None or self.config.trials != plan.trials or len(done) < plan.least:
            return False
        return plan.late(plan.begun + self.record.seconds.get("supernet", plan.predicted["supernet"]), busy(done))

    def _cut(self, done: int) -> None:
        """Makes the number of evaluated candidates the number of trials, so that a resumed run does what this one does."""
        self.tell.say(
            f"{done} of {self.config.trials} planned candidates were evaluated, then the rest of the time was needed"
        )
        self.config = self.config.model_copy(update={"trials": done})
        self.note(config=self.record.config.model_copy(update={"trials": done}))

    def _train(self) -> None:
        training = SupernetTraining(self.run, self.record, self.ground.space, self.ranking)
        self.note(recipes={"supernet": training.recipe.text})
        with self.tell.task("training the supernet", self.config.epochs) as task, self.timed("supernet"):
            report = Curves(self.run.curves_path).of(
                SUPERNET,
                lambda epoch, _, loss: self.tell.update(task, f"training the supernet, loss {loss:.3f}", epoch),
            )
            supernet = trained(training, self.ground.processes, report, self.tell.say)
            clear(self.run.checkpoint_path)
            supernet.save(self.run.supernet_path)
        self.note()
        with suppress(OSError):
            self.run.checkpoint_path.unlink()
