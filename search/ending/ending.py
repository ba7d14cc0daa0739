"""The end of a search: candidates trained alone, finalists, front, judgement. Does what the run folder does not show as done."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache

from optuna.trial import FrozenTrial
from rich.progress import TaskID

from wb.core.architecture import Architecture
from wb.models.counting import count_macs
from wb.search.beginning.recipes import told_recipes
from wb.search.crew.hands import Hands
from wb.search.ending.finalists import Finish
from wb.search.ending.known.baselines import MOST, Comparable
from wb.search.fidelity.climb import Climb
from wb.search.fidelity.forecast import chosen, forecast
from wb.search.fidelity.teacher import Teacher, largest, unreliable
from wb.search.judgement.judge import Evidence, judge
from wb.search.judgement.record import Judgement
from wb.search.planning.costs import again, epoch_seconds
from wb.search.planning.enough import enough, largest_first
from wb.search.results.point import FrontPoint
from wb.search.sampler.generate import GENERATORS
from wb.search.sampler.quality import predictor_quality
from wb.search.stages import Stages
from wb.search.study.trials import at_once, choices_of, evaluated, readings_of
from wb.search.supernet import Supernet
from wb.training.recipes.choose import lasting
from wb.training.recipes.recipe import Recipe


def _work(trials: Mapping[int, FrozenTrial]) -> Callable[[int], float]:
    """The multiply-accumulates of candidates by number."""
    return lambda number: readings_of(trials[number])["macs"].value


def _largest(networks: Mapping[int, Architecture]) -> int:
    """The number of the finalist that is trained first."""
    return largest_first(networks, lambda number: count_macs(networks[number]).value)[0]


class Ending(Stages):
    """The last stages, after all processes have evaluated candidates."""

    def finish(self, supernet: Supernet, seconds: float, count: int = 1) -> list[FrontPoint]:
        """Makes the front from the evaluations of all processes, which took `seconds`; the record is written last.

        Networks are trained alone in `count` processes.
        """
        with Hands(self.config, self.run.folder, count, self.tell.say) as hands:
            return self._finish(supernet, seconds, hands)

    def _finish(self, supernet: Supernet, seconds: float, hands: Hands) -> list[FrontPoint]:
        ground, trials = self.ground, evaluated(self.study)
        self.took({"search": seconds})
        if len(trials) < self.config.trials and self._late(trials):
            self._cut(len(trials))
        config = self.config
        self.note(predictors=predictor_quality(ground.space, trials, config.metrics), workers=at_once(trials))
        teacher = largest(supernet)
        self._climb(supernet, teacher, trials, hands)
        with self.tell.task("finishing") as task, self.timed("finalists"):
            finalists = self._settled(supernet, trials, hands)
            networks = {n: ground.space.decode(choices_of(ground.space, trial)) for n, trial in finalists.items()}
            config, taught = self.config, self._teaches(supernet)
            if config.finetune:
                self._tell_recipes(networks, taught)
            finish = self._finishing(
                supernet, teacher if taught else None, list(finalists.values()), networks, task, hands
            )
            points, error = finish(finalists)
        self.note(table=error, finished=config.wanted, judgement=self._judgement(trials, points))
        return points

    @property
    def _epochs(self) -> tuple[int, int]:
        """Epochs of the largest finalist and of the others: the plan's, unless others were given when the run was resumed."""
        plan, given = self.record.plan, self.config.finetune
        return (given if plan is None or given != plan.finetune else plan.first_epochs), given

    def _tell_recipes(self, networks: Mapping[int, Architecture], taught: bool) -> None:
        """Puts into the record how the finalists are trained, and says what nobody asked for."""
        (first, others), most = self._epochs, _largest(networks)
        recipes = {
            n: self._recipe(network, first if n == most else others, taught or n != most)
            for n, network in networks.items()
        }
        told = told_recipes(recipes)
        self.record = self.record.model_copy(update={"recipes": {**self.record.recipes, "finalists": told}})
        if recipes[most].rdrop and self.config.training.rdrop is None:
            half = recipes[most].epochs
            self.tell.say(
                f"finalist {most} runs twice over each batch, and for {half} epochs (R-Drop; --rdrop 0: once)"
            )

    def _recipe(self, network: Architecture, epochs: int, taught: bool) -> Recipe:
        """How a finalist is trained; what nobody teaches may last, if nobody said for how long."""
        recipe, plan = self._tuning(epochs, network), self.record.plan
        planned = plan is not None and plan.longest == epochs
        return lasting(recipe, self.config.training) if planned and not taught else recipe

    def _finishing(
        self,
        supernet: Supernet,
        teacher: Teacher | None,
        finalists: Sequence[FrozenTrial],
        networks: Mapping[int, Architecture],
        task: TaskID,
        hands: Hands,
    ) -> Finish:
        """What trains and reads the finalists."""
        ground, config, plan = self.ground, self.config, self.record.plan
        (first, others), work = self._epochs, {count_macs(network).value for network in networks.values()}
        largest = networks[_largest(networks)]

        def recipe(network: Architecture) -> Recipe:
            """A known network beside the finalists gets the epochs of that which is nearest in work; it has a teacher."""
            own = count_macs(network).value
            nearest = min(work, key=lambda one: abs(math.log(one / own)))
            alone = teacher is None and network == largest
            return self._recipe(network, first if nearest == max(work) else others, taught=not alone)

        return Finish(
            run=self.run,
            supernet=supernet,
            teacher=teacher,
            data=ground.data if config.finetune else self.ranking,
            device=ground.device,
            pace=self.record.pace,
            metrics=config.metrics,
            limits=config.limits if plan is None else plan.given(config.limits),
            requirements=config.requirements,
            recipe=recipe if config.finetune else None,
            seed=config.seed,
            progress=lambda what, done, of: self.tell.update(task, what, done, of),
            say=self.tell.say,
            alone=ground.crew.timing,
            hands=hands,
            known=self._known(supernet, finalists),
            # Blocks that see mirror images too, or in 8 bits, are in no table.
            mirror=config.mirror and not ground.places.tables,
            low=config.int8 and not ground.places.tables,
            places=ground.places,
            retrain=config.retrains,
            apart=config.apart,
            most=max(trial.number for trial in evaluated(self.study)),
        )

    def _climb(self, supernet: Supernet, teacher: Teacher, trials: Sequence[FrozenTrial], hands: Hands) -> None:
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
                hands=hands,
            )
            climb(trials, self.record.rungs)
        self.note()

    def _teaches(self, supernet: Supernet) -> bool:
        """Whether the supernet's largest network teaches the finalists."""
        reached = [reading.value for rung in self.record.rungs.values() for reading in rung.values()]
        epochs, started = self.config.finetune, self.config.start is not None
        # A model that the supernet starts from was trained before.
        passes = math.inf if started else self.config.epochs * self.record.part
        why_not = unreliable(supernet, self.ranking, reached, passes, epochs) if epochs else None
        if why_not is not None:
            self.tell.say(why_not)
        return why_not is None

    def _settled(self, supernet: Supernet, trials: Sequence[FrozenTrial], hands: Hands) -> Mapping[int, FrozenTrial]:
        """The finalists; with a given time, as many as it trains for long enough, and their epochs, chosen once."""
        ground, plan, config = self.ground, self.record.plan, self.config
        numbered = {trial.number: trial for trial in trials}

        def choose(count: int | None, without: Collection[int]) -> Mapping[int, FrozenTrial]:
            among = [trial for number, trial in numbered.items() if number not in without]
            return chosen(config.model_copy(update={"finalists": count}), among, self.record.rungs)

        if plan is None or plan.settled or config.finetune != plan.finetune:
            return choose(config.finalists, () if plan is None else plan.dear)
        if config.finalists not in (None, plan.finalists):  # given anew when the run was resumed
            plan = plan.model_copy(update={"finalists": config.finalists, "fewest": config.finalists})

        @cache
        def epoch(number: int) -> float:
            network = ground.space.decode(choices_of(ground.space, numbered[number]))
            return epoch_seconds(supernet, ground.data, network, self._tuning(config.finetune, network))

        over = plan.begun + sum(self.record.seconds.get(stage, 0.0) for stage in ("supernet", "search", "rungs"))
        beside = min(MOST, len(ground.space.known)) if config.baselines else 0
        once_more = again(config, ground.data)
        found = enough(plan, plan.seconds - over, choose, epoch, _work(numbered), beside, hands.count, once_more)
        kept = found.settled(plan, len(choose(plan.finalists, ())))
        if kept.finalists != plan.finalists:
            self.tell.say(f"{kept.finalists} finalists instead of {plan.finalists} fit into the time that is left")
        self.tell.say(f"{found.text} fit into the time that is left")
        settings = {"finetune": kept.finetune, "finalists": kept.finalists}
        self.config = config.model_copy(update=settings)
        self.note(config=self.record.config.model_copy(update=settings), plan=kept)
        return found.finalists

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
