"""`wb search` from start to end: data, supernet, study, front, report. Every stage can be interrupted and resumed.

Several processes may work on one run: they evaluate candidates at the same time, and everything else is done by one of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from uuid import uuid4

import torch
from optuna.trial import FrozenTrial
from rich.progress import Progress, TaskID

from wb import __version__
from wb.core import provenance
from wb.core.errors import BadOption
from wb.core.readings import Reading
from wb.data import Dataset
from wb.data import load as load_data
from wb.export.timing.measure import reference_pace
from wb.export.timing.table import LatencyTable
from wb.hardware.device import parse_device
from wb.models.model import Step, save
from wb.search.budget import check_budget
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluator
from wb.search.finalists import Finish
from wb.search.helpers import Helpers
from wb.search.page.report import write_report
from wb.search.run import DataRecord, FrontPoint, Run, RunRecord
from wb.search.sampler.quality import predictor_quality
from wb.search.sampler.sampler import make_sampler
from wb.search.study.half_made import STUDY, discard_study
from wb.search.study.memory import check_memory
from wb.search.study.optimize import Optimization
from wb.search.study.seeds import enqueue, seed_choices
from wb.search.study.storage import settle, without_password
from wb.search.study.study import check_study, create_study, load_study
from wb.search.study.trials import at_once, evaluated, readings_of
from wb.search.study.workers import Crew
from wb.search.supernet import Supernet, train_supernet
from wb.spaces.presets import vit_space
from wb.training.fit import Recipe

FINETUNE_RATE = 2e-3  # a sub-network has far to go: it shared its weights with all others


@dataclass
class Search:
    """One search with everything it needs; calling it does what is not done yet and gives the front.

    `workers` processes evaluate candidates, this one among them.
    """

    config: SearchConfig
    run: Run
    progress: Progress
    workers: int = 1
    crew: Crew = field(init=False)

    def __post_init__(self) -> None:
        self.crew = Crew(self.run.folder)

    def __call__(self, *, resume: bool = False) -> list[FrontPoint]:
        """Runs every stage that the run folder does not show as done, and that no other process does.

        Raises:
            WbError: whatever is wrong with the data, the options, the budget or the storage; what is done stays.
        """
        self._prepare()
        try:
            return self._do(resume)
        finally:
            with suppress(OSError):
                self.crew.disband(whole=not self.run.record_path.exists())

    def _do(self, resume: bool) -> list[FrontPoint]:
        with self._sole("until it has trained the supernet"):
            self.record = self._continued() if resume else self._begun()
            if self._finished():
                return self.run.read_front()
            supernet = self._supernet()
            enqueue(self.study, self.space, dict(zip(self.config.seed_texts, self.seeds, strict=True)))
        seconds = self._search(supernet)
        with self._sole("until it has written the front"):
            self.record = self.run.read()
            if self._finished():
                return self.run.read_front()
            trials = self._searched(seconds)
            points = self._finish(supernet, trials)
            write_report(self.run)
        return points

    def assist(self) -> None:
        """Evaluates candidates with others and does nothing else; the run has its supernet already.

        Raises:
            WbError: as a search does.
        """
        self._prepare()
        self.record = self._checked(self.run.read())
        self.study = load_study(self.run.storage(self.config), self.record.study)
        self._evaluate(Supernet.load(self.run.supernet_path, self.space))

    def _prepare(self) -> None:
        """Reads the data, and checks what can be checked before anything is written."""
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
        check_memory(self.space)
        self.seeds = seed_choices(self.space, self.config.seeds)
        if self.config.tabulated:
            LatencyTable(self.device).check()

    def _begun(self) -> RunRecord:
        """Checks what takes a moment, then writes `run.json`."""
        config = self.config
        if self.run.record_path.exists():
            raise BadOption(
                f"another process began a run in {self.run.folder}; choose another --out, or continue it with --resume "
                f"{self.run.folder}"
            )
        with self._task("checking the budget"):
            check_budget(config, self.space, self.data, self.device)
        pace = self._pace()  # first: a run has both its study and its record, or neither
        try:
            record = self._recorded(pace)
        except BaseException:
            discard_study(self.run.folder)
            raise
        return record

    def _recorded(self, pace: Reading) -> RunRecord:
        """Makes the study, then writes `run.json`."""
        config = self.config
        name = STUDY if config.storage is None else f"wb-{uuid4().hex[:12]}"
        discard_study(self.run.folder)
        self.study = create_study(self.run.storage(config), name, config.metrics)
        record = RunRecord(
            created=provenance.now(),
            config=config.model_copy(update={"storage": config.storage and without_password(config.storage)}),
            study=name,
            data=_described(self.data),
            machine=provenance.machine(self.device.text),
            versions=provenance.versions(),
            pace=pace,
        )
        self.run.write(record)
        return record

    def _continued(self) -> RunRecord:
        record = self._checked(self.run.read())
        config = self.config.model_copy(update={"storage": record.config.storage})
        record = record.model_copy(update={"config": config})
        url = self.run.storage(self.config)
        self.study = load_study(url, record.study)
        check_study(url, self.study, config.metrics, config.limits, self.space)
        self.run.write(record)
        others = len(self.crew.others())
        if others:
            who = "another process evaluates" if others == 1 else f"{others} other processes evaluate"
            self._say(f"{who} candidates of {self.run.folder}; this one joins in")
        return record

    def _checked(self, record: RunRecord) -> RunRecord:
        record.check_data(self.config.data, self.data.fingerprint)
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
        start = time.perf_counter()
        with self._task("training the supernet", self.config.epochs) as task:

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
        self._took("supernet", time.perf_counter() - start)
        with suppress(OSError):
            self.run.checkpoint_path.unlink()

    def _search(self, supernet: Supernet) -> float:
        """Evaluates candidates, with the help of other processes; gives the seconds that it took."""
        start = time.perf_counter()
        wanted = max(1, min(self.workers, self.config.trials - len(evaluated(self.study))))
        with Helpers(self.config, self.run.folder, wanted - 1, self._say):
            done = self._evaluate(supernet)
        settle(self.run.storage(self.config))
        if done < self.config.trials:
            self._say(
                f"{done} of {self.config.trials} candidates were evaluated: sampler {self.config.sampler!r} finds no others in "
                "this space"
            )
        return time.perf_counter() - start

    def _evaluate(self, supernet: Supernet) -> int:
        """This process's part of the evaluations; ends when all processes together have done enough."""
        config = self.config
        self.study.sampler = make_sampler(config.sampler, self.space, config.limits, config.seed, self.crew.name)
        table = LatencyTable(self.device) if config.tabulated else None
        evaluate = Evaluator(
            supernet, self.data, self.device, self.pace, "latency" in config.read, table, config.seed, self.crew.timing
        )
        with self._task("evaluating candidates", config.trials) as task:

            def report(done: int, trial: FrozenTrial) -> None:
                readings = readings_of(trial)
                values = "  ".join(f"{metric.name} {readings[metric.name].value:.4g}" for metric in config.metrics)
                self.progress.update(task, completed=done, description=f"evaluating candidates, last {values}")

            search = Optimization(
                self.study, self.space, config.metrics, config.limits, evaluate, config.trials, report, self.crew
            )
            return search()

    def _searched(self, seconds: float) -> list[FrozenTrial]:
        """What all processes have evaluated; notes how long that took, and how well it could be predicted."""
        trials = evaluated(self.study)
        self._took("search", seconds)
        self._note(
            predictors=predictor_quality(self.space, trials, self.config.metrics),
            workers=at_once(trials),
        )
        return trials

    def _finish(self, supernet: Supernet, trials: list[FrozenTrial]) -> list[FrontPoint]:
        config = self.config
        start = time.perf_counter()
        recipe = Recipe(epochs=config.finetune, learning_rate=FINETUNE_RATE) if config.finetune else None
        with self._task("finishing") as task:

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
                say=self._say,
                alone=self.crew.timing,
            )
            points, error = finish(trials)
        self._took("finalists", time.perf_counter() - start)
        self._note(table=error, finished={"trials": config.trials, "finetune": config.finetune})
        return points

    @property
    def pace(self) -> Reading:
        """That of the reference graph when the run began."""
        return self.record.pace

    def _note(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        self.run.write(self.record)

    def _took(self, stage: str, seconds: float) -> None:
        """Adds the wall time of a stage to `run.json`, when it is done."""
        total = self.record.seconds.get(stage, 0.0) + seconds
        self._note(seconds={**self.record.seconds, stage: round(total, 2)})

    @contextmanager
    def _sole(self, until: str) -> Iterator[None]:
        """Only this process is here; says where it has to wait for another."""
        task: list[TaskID] = []

        def waiting() -> None:
            text = f"another process is at work on {self.run.folder}; waiting {until}"
            self._say(text)
            task.append(self.progress.add_task("waiting for another process", total=None))

        with self.crew.sole(waiting):
            for each in task:
                self.progress.stop_task(each)
            yield

    def _say(self, text: str) -> None:
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _task(self, description: str, total: int | None = None) -> Iterator[TaskID]:
        task = self.progress.add_task(description, total=total)
        try:
            yield task
        finally:
            self.progress.stop_task(task)

    def _counter(self, task: TaskID):  # type: ignore[no-untyped-def]
        return lambda done, total: self.progress.update(task, completed=done, total=total)


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
