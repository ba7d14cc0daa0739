"""The stages of a search: supernet, evaluations, finalists. Each does what the run folder does not show as done."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property, partial

from optuna import Study
from optuna.trial import FrozenTrial

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.files import clear
from wb.data import Dataset
from wb.export.timing.table import LatencyTable
from wb.jobs.record import Recorder
from wb.models.model import Model, Step, load, save
from wb.search.baselines import Comparable
from wb.search.evaluate import Evaluator
from wb.search.fidelity.climb import Climb
from wb.search.fidelity.forecast import chosen, forecast
from wb.search.fidelity.teacher import Teacher, largest, unreliable
from wb.search.fidelity.yardstick import ranking
from wb.search.finalists import Finish
from wb.search.ground import Ground
from wb.search.helpers import Helpers
from wb.search.judgement.judge import Evidence, judge
from wb.search.judgement.record import Judgement
from wb.search.planning.costs import epoch_seconds
from wb.search.planning.enough import enough
from wb.search.recipes import supernet_recipe, told_recipes, tuning_recipe
from wb.search.results.curves import SUPERNET, Curves
from wb.search.results.point import FrontPoint
from wb.search.run import RunRecord
from wb.search.sampler.generate import GENERATORS
from wb.search.sampler.quality import predictor_quality
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import settle
from wb.search.study.trials import at_once, busy, choices_of, evaluated, readings_of
from wb.search.supernet import Supernet, train_supernet
from wb.search.trained.start import sorted_by
from wb.training.recipe import Recipe


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

    def search(self, supernet: Supernet, workers: int) -> float:
        """Evaluates candidates in `workers` processes together; returns the seconds that it took."""
        start = time.perf_counter()
        wanted = max(1, min(workers, self.config.trials - len(evaluated(self.study))))
        with Helpers(self.config, self.run.folder, wanted - 1, self.tell.say):
            done = self.evaluate(supernet)
        settle(self.run.storage(self.config))
        if done < self.config.trials and not self._late(evaluated(self.study)):
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
            self.ranking,
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
                self.study,
                ground.space,
                config.metrics,
                config.limits,
                evaluate,
                config.trials,
                report,
                ground.crew,
                self._late,
            )
            return search()

    def finish(self, supernet: Supernet, seconds: float) -> list[FrontPoint]:
        """Makes the front from the evaluations of all processes, which took `seconds`; the record is written last."""
        ground, trials = self.ground, evaluated(self.study)
        self.took({"search": seconds})
        if len(trials) < self.config.trials and self._late(trials):
            self._cut(len(trials))
        config = self.config
        self.note(predictors=predictor_quality(ground.space, trials, config.metrics), workers=at_once(trials))
        teacher = largest(supernet)
        self._climb(supernet, teacher, trials)
        with self.tell.task("finishing") as task, self.timed("finalists"):
            finalists = self._settled(supernet, trials)
            networks = {n: ground.space.decode(choices_of(ground.space, trial)) for n, trial in finalists.items()}
            config = self.config
            if config.finetune:
                told = told_recipes({n: self._tuning(config.finetune, network) for n, network in networks.items()})
                self.record = self.record.model_copy(update={"recipes": {**self.record.recipes, "finalists": told}})
            finish = Finish(
                run=self.run,
                supernet=supernet,
                teacher=teacher if self._teaches(supernet) else None,
                data=ground.data if config.finetune else self.ranking,
                device=ground.device,
                pace=self.record.pace,
                metrics=config.metrics,
                limits=config.limits if self.record.plan is None else self.record.plan.given(config.limits),
                requirements=config.requirements,
                recipe=partial(self._tuning, config.finetune) if config.finetune else None,
                seed=config.seed,
                progress=lambda what, done, of: self.tell.update(task, what, done, of),
                say=self.tell.say,
                alone=ground.crew.timing,
                known=self._known(supernet, list(finalists.values())),
                mirror=config.mirror,
                most=max(trial.number for trial in trials),
            )
            points, error = finish(finalists)
        self.note(table=error, finished=config.wanted, judgement=self._judgement(trials, points))
        return points

    def _judgement(self, trials: Sequence[FrozenTrial], points: Sequence[FrontPoint]) -> Judgement | None:
        """What became of the requirements; None if there are none."""
        config, asked = self.config, self.config.asked
        if not asked.requirements:
            return None
        generators = self.study.user_attrs.get(GENERATORS, {})
        left = {point.id: point.values for point in points}
        rungs = {
            rung.epochs: self.record.rungs[rung.epochs] for rung in config.halving if self.record.rungs.get(rung.epochs)
        }
        trained = {number: own for epochs in sorted(rungs) for number, own in rungs[epochs].items()}
        evidence = Evidence(trials, left, trained, forecast(trials, config.metrics, rungs) if rungs else {})
        kept = generators.get(asked.within(config.limits).text())
        with self.tell.task("judging by the requirements"):
            return judge(asked, config.limits, self.ground.space, evidence, kept, config.seed)

    def _known(self, supernet: Supernet, finalists: Sequence[FrozenTrial]) -> Mapping[str, Architecture]:
        """The known networks that are trained and measured beside the finalists, if it was asked for."""
        if not self.config.baselines:
            return {}
        ground = self.ground
        choose = Comparable(
            self.run,
            supernet,
            ground.space,
            ground.data.train,
            ground.device,
            self.record.pace,
            self.config.seed,
            ground.crew.timing,
        )
        return choose([readings_of(trial) for trial in finalists])

    def _climb(self, supernet: Supernet, teacher: Teacher, trials: Sequence[FrozenTrial]) -> None:
        """Trains candidates alone, as the rungs of the configuration say; the record has the reading of each at once."""
        config = self.config
        if not config.halving:
            return
        with self.tell.task("training candidates alone") as task, self.timed("rungs"):
            climb = Climb(
                supernet=supernet,
                teacher=teacher,
                data=self.ranking,
                device=self.ground.device,
                metrics=config.metrics,
                limits=config.limits,
                requirements=config.requirements,
                rungs=config.halving,
                recipe=self._tuning,
                seed=config.seed,
                progress=lambda what, done, of: self.tell.update(task, what, done, of),
                note=lambda climbed: self.note(rungs=climbed),
            )
            climb(trials, self.record.rungs)
        self.note()

    def _teaches(self, supernet: Supernet) -> bool:
        """Whether the supernet's largest network teaches the finalists."""
        reached = [reading.value for rung in self.record.rungs.values() for reading in rung.values()]
        epochs, started = self.config.finetune, self.config.start is not None
        passes = (
            math.inf if started else self.config.epochs * self.record.part
        )  # what it starts from was trained before
        why_not = unreliable(supernet, self.ranking, reached, passes, epochs) if epochs else None
        if why_not is not None:
            self.tell.say(why_not)
        return why_not is None

    def _tuning(self, epochs: int, network: Architecture | None = None) -> Recipe:
        """How a candidate, or that finalist, is trained alone."""
        return tuning_recipe(self.config, self.ground.space, self.ground.data, epochs, network)

    def _settled(self, supernet: Supernet, trials: Sequence[FrozenTrial]) -> Mapping[int, FrozenTrial]:
        """The finalists; with a given time, as many as it trains for long enough, and their epochs, chosen once."""
        ground, plan, config = self.ground, self.record.plan, self.config

        def choose(count: int | None, without: Collection[int]) -> Mapping[int, FrozenTrial]:
            among = [trial for trial in trials if trial.number not in without]
            return chosen(config.model_copy(update={"finalists": count}), among, self.record.rungs)

        if plan is None or plan.settled or config.finetune != plan.finetune:
            return choose(config.finalists, () if plan is None else plan.dear)
        if config.finalists not in (None, plan.finalists):  # given anew when the run was resumed
            plan = plan.model_copy(update={"finalists": config.finalists, "fewest": config.finalists})

        @cache
        def epoch(number: int) -> float:
            network = ground.space.decode(choices_of(ground.space, numbered[number]))
            return epoch_seconds(supernet, ground.data, network, self._tuning(config.finetune, network))

        numbered = {trial.number: trial for trial in trials}
        over = plan.begun + sum(self.record.seconds.get(stage, 0.0) for stage in ("supernet", "search", "rungs"))
        found = enough(plan, plan.seconds - over, choose, epoch)
        kept = found.settled(plan, len(choose(plan.finalists, ())))
        for what, name in (("finalists", "finalists"), ("epochs of fine-tuning", "finetune")):
            now, before = getattr(kept, name), getattr(plan, name)
            if now != before:
                self.tell.say(f"{now} {what} instead of {before} fit into the time that is left")
        settings = {"finetune": kept.finetune, "finalists": kept.finalists}
        self.config = config.model_copy(update=settings)
        self.note(config=self.record.config.model_copy(update=settings), plan=kept)
        return found.finalists

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

    def _start(self) -> Model | None:
        """The trained model whose weights the supernet starts from, its axes sorted; None if it starts from initial ones."""
        if self.config.start is None:
            return None
        return sorted_by(load(self.run.start_path), self.ranking.train, self.config.seed)

    def _train(self) -> None:
        recipe = supernet_recipe(self.config, self.ground.space, self.ranking)
        self.note(recipes={"supernet": recipe.text})
        with self.tell.task("training the supernet", self.config.epochs) as task, self.timed("supernet"):
            supernet = train_supernet(
                self.ground.space,
                self.ranking,
                recipe,
                seed=self.config.seed,
                start=self._start(),
                checkpoint=self.run.checkpoint_path,
                report=Curves(self.run.curves_path).of(
                    SUPERNET,
                    lambda epoch, _, loss: self.tell.update(task, f"training the supernet, loss {loss:.3f}", epoch),
                ),
            )
            clear(self.run.checkpoint_path)
            supernet.save(self.run.supernet_path)
        self.note()
        with suppress(OSError):
            self.run.checkpoint_path.unlink()
