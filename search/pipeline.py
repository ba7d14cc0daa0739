"""`wb search` from start to end: data, supernet, study, front, report. Every stage can be interrupted and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import torch
from optuna.trial import FrozenTrial
from rich.progress import Progress, TaskID

from wb import __version__
from wb.core import provenance
from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BudgetMissed, WbError
from wb.core.metrics import Limit
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.readings import Reading
from wb.data import Dataset
from wb.data import load as load_data
from wb.export.measure import reference_pace
from wb.export.table import LatencyTable
from wb.hardware.device import Device, parse_device
from wb.models.model import Step, save
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.finalists import Finish
from wb.search.quality import predictor_quality
from wb.search.report import write_report
from wb.search.run import DataRecord, FrontPoint, Run, RunRecord
from wb.search.seeds import enqueue, seed_choices
from wb.search.study import create_study, evaluated, load_study, make_sampler, optimize, public, settle
from wb.search.supernet import Supernet, train_supernet
from wb.spaces.presets import vit_space
from wb.spaces.vit import Vit
from wb.training.fit import Recipe

FINETUNE_RATE = 2e-3  # a sub-network has far to go: it shared its weights with all others


@dataclass
class Search:
    """One search with everything it needs; calling it does what is not done yet and gives the front."""

    config: SearchConfig
    run: Run
    progress: Progress

    def __call__(self, *, resume: bool = False) -> list[FrontPoint]:
        """Runs every stage that the run folder does not show as done.

        Raises:
            WbError: whatever is wrong with the data, the options, the budget or the storage; what is done stays.
        """
        torch.set_num_threads(self.config.threads)
        self.device = parse_device(self.config.device, threads=self.config.threads)
        with self._task("reading the data") as task:
            self.data = load_data(
                self.config.data,
                image_size=self.config.image_size,
                limit=self.config.limit,
                progress=self._counter(task),
            )
        self.space = vit_space(self.data, self.config.preset, self.config.changes)
        self.seeds = seed_choices(self.space, self.config.seeds)
        self.record = self._continued() if resume else self._begun()
        self.pace = self.record.pace
        if self._finished():
            return self.run.read_front()
        supernet = self._supernet()
        trials = self._search(supernet)
        points = self._finish(supernet, trials)
        write_report(self.run)
        return points

    def _begun(self) -> RunRecord:
        """Checks what can be checked before any time is spent, then writes `run.json`."""
        config = self.config
        with self._task("checking the budget"):
            check_budget(config, self.space, self.data, self.device)
        name = "search" if config.storage is None else f"wb-{uuid4().hex[:12]}"
        try:
            create_study(self.run.storage(config), name, config.metrics)
        except WbError:
            for half_made in self.run.folder.glob("study.db*"):
                half_made.unlink()
            raise
        record = RunRecord(
            created=provenance.now(),
            config=config.model_copy(update={"storage": config.storage and public(config.storage)}),
            study=name,
            data=_described(self.data),
            machine=provenance.machine(self.device.text),
            versions=provenance.versions(),
            pace=self._pace(),
        )
        self.run.write(record)
        return record

    def _continued(self) -> RunRecord:
        record = self.run.read()
        if record.data.fingerprint != self.data.fingerprint:
            raise BadArtefact(
                f"the data at {self.config.data!r} are no longer those of the run (fingerprint {self.data.fingerprint}, then "
                f"{record.data.fingerprint}); restore them, or start a new run"
            )
        config = self.config.model_copy(update={"storage": record.config.storage})
        record = record.model_copy(update={"config": config})
        self.run.write(record)
        return record

    def _finished(self) -> bool:
        """Whether the front that is there is the one that was asked for."""
        wanted = {"trials": self.config.trials, "finetune": self.config.finetune}
        return self.run.front_path.exists() and self.record.finished == wanted

    def _pace(self) -> Reading:
        with self._task("timing the reference graph"):
            return reference_pace(self.device)

    def _supernet(self) -> Supernet:
        if not self.run.supernet_path.exists():
            self._train()
        supernet = Supernet.load(self.run.supernet_path, self.space)  # on the CPU, where candidates are exported
        if not self.run.largest_path.exists():
            largest = supernet.extract(self.space.largest())
            trained = Step(name="supernet", arguments={**self.data.origin}, seed=self.config.seed, version=__version__)
            save(largest.then(trained), self.run.largest_path, force=True)
        return supernet

    def _train(self) -> None:
        with self._timed("supernet"), self._task("training the supernet", self.config.epochs) as task:

            def report(epoch: int, _: int, loss: float) -> None:
                self.progress.update(task, completed=epoch, description=f"training the supernet, loss {loss:.3f}")

            supernet = train_supernet(
                self.space,
                self.data,
                self.config.recipe,
                seed=self.config.seed,
                checkpoint=self.run.checkpoint_path,
                report=report,
            )
            supernet.save(self.run.supernet_path)
        with suppress(OSError):
            self.run.checkpoint_path.unlink()

    def _search(self, supernet: Supernet) -> list[FrozenTrial]:
        config = self.config
        study = load_study(self.run.storage(config), self.record.study)
        study.sampler = make_sampler(config.sampler, self.space, config.limits, config.seed, len(study.trials))
        enqueue(study, self.space, dict(zip(config.seed_texts, self.seeds, strict=True)))
        wanted = {metric.name for metric in config.metrics} | {limit.metric.name for limit in config.limits}
        table = LatencyTable(self.device) if config.latency == "table" and "latency" in wanted else None
        evaluate = Evaluator(supernet, self.data, self.device, self.pace, "latency" in wanted, table, config.seed)
        with self._timed("search"), self._task("evaluating candidates", config.trials) as task:
            self.progress.update(task, completed=len(evaluated(study)))

            def report(done: int, trial: FrozenTrial) -> None:
                values = "  ".join(
                    f"{metric.name} {trial.user_attrs['readings'][metric.name]['value']:.4g}"
                    for metric in config.metrics
                )
                self.progress.update(task, completed=done, description=f"evaluating candidates, last {values}")

            done = optimize(study, self.space, config.metrics, config.limits, evaluate, config.trials, report)
        settle(self.run.storage(config))
        if done < config.trials:
            self.progress.console.print(
                f"{done} of {config.trials} candidates were evaluated: sampler {config.sampler!r} finds no others in this space",
                markup=False,
            )
        trials = evaluated(study)
        self._note(predictors=predictor_quality(self.space, trials, config.metrics))
        return trials

    def _finish(self, supernet: Supernet, trials: list[FrozenTrial]) -> list[FrontPoint]:
        config = self.config
        recipe = Recipe(epochs=config.finetune, learning_rate=FINETUNE_RATE) if config.finetune else None
        with self._timed("finalists"), self._task("finishing") as task:

            def report(what: str, done: int, of: int) -> None:
                self.progress.update(task, description=what, completed=done, total=of)

            finish = Finish(
                run=self.run,
                supernet=supernet,
                data=self.data,
                device=self.device,
                pace=self.pace,
                metrics=config.metrics,
                limits=config.limits,
                recipe=recipe,
                seed=config.seed,
                report=report,
            )
            points, error = finish(trials)
        self._note(table=error, finished={"trials": config.trials, "finetune": config.finetune})
        return points

    def _note(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        self.run.write(self.record)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Adds the wall time of a stage to `run.json`, when it is done."""
        start = time.perf_counter()
        yield
        seconds = self.record.seconds.get(stage, 0.0) + time.perf_counter() - start
        self._note(seconds={**self.record.seconds, stage: round(seconds, 2)})

    @contextmanager
    def _task(self, description: str, total: int | None = None) -> Iterator[TaskID]:
        task = self.progress.add_task(description, total=total)
        try:
            yield task
        finally:
            self.progress.stop_task(task)

    def _counter(self, task: TaskID):  # type: ignore[no-untyped-def]
        return lambda done, total: self.progress.update(task, completed=done, total=total)


def check_budget(config: SearchConfig, space: Vit, data: Dataset, device: Device) -> None:
    """Raises `BudgetMissed` where the smallest network of the space is over the budget already, whatever it is kept in."""
    limits = [limit for limit in config.limits if limit.metric.name != "acc"]
    if not limits:
        return
    evaluate = Evaluator(Supernet.fresh(space, config.seed), data, device)
    found = {architecture: evaluate(architecture).readings for architecture in space.smallest_of_each_precision()}
    for limit in limits:
        least = _least(limit, space, found, evaluate)
        if limit.excess(least) > 0:
            raise BudgetMissed(
                f"{limit.text()} cannot be met: the smallest network of space {space.name!r} ({config.preset}) has "
                f"{least.text()} here; allow more, or reach further down with --set (see `wb spaces`)"
            )


def _least(
    limit: Limit,
    space: Vit,
    found: dict[Architecture, dict[str, Reading]],
    evaluate: Callable[[Architecture], Evaluation],
) -> Reading:
    """The best reading of the limited metric among `found` or, where that is over the limit, after each kind of groups got
    the precision that suits it best; adds to `found`.

    What quantizing a small group adds to a graph may be more than it saves, so that the best is in between.
    """

    def excess(architecture: Architecture) -> float:
        if architecture not in found:
            found[architecture] = evaluate(architecture).readings
        return limit.excess(found[architecture][limit.metric.name])

    best = min(found, key=excess)
    if limit.metric.name in ("macs", "params"):  # the same in all precisions
        return found[best][limit.metric.name]
    kinds: dict[str, list[str]] = {}
    for group in precisions(best):
        kinds.setdefault(".".join(group.split(".")[-2:]), []).append(group)
    for groups in kinds.values():
        for option in space.options.precision:
            if excess(best) > 0 and option in allowed(groups[0]):
                best = min(best, with_precisions(best, dict.fromkeys(groups, option)), key=excess)
    return found[best][limit.metric.name]


def _described(data: Dataset) -> DataRecord:
    return DataRecord(
        spec=data.spec,
        fingerprint=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        image=(data.channels, data.height, data.width),
        classes=data.classes,
    )
