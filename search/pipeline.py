"""`wb search` from start to end: data, supernet, study, front, report. Every stage can be interrupted and resumed.

Several processes may work on one run: all of them evaluate candidates, and one of them does everything else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from uuid import uuid4

import torch
from optuna.trial import TrialState
from rich.progress import Progress, TaskID

from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.data import Dataset
from wb.data import load as load_data
from wb.export.timing.measure import reference_pace
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, parse_device, unaddressed, usable_cores
from wb.jobs.frame.record import origin
from wb.models.model import Model, save
from wb.scale.processes import ONE, Processes
from wb.search.beginning.budget import check_budget
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.ground import Ground
from wb.search.beginning.metrics import check_metrics
from wb.search.crew.crew import Crew
from wb.search.crew.hands import hands_of, unsaid
from wb.search.crew.helpers import Helpers
from wb.search.crew.joining import check_same
from wb.search.crew.on_ray import check_ray
from wb.search.ending.ending import Ending
from wb.search.ending.known.baselines import check_baselines
from wb.search.fidelity.yardstick import held_back, warning
from wb.search.page.report import write_report
from wb.search.places import Places, places_of
from wb.search.planning.costs import planned
from wb.search.planning.settle import check_retrain, retrained, settled
from wb.search.planning.shares import TimePlan
from wb.search.results.point import FrontPoint
from wb.search.run import DataRecord, Run, RunRecord
from wb.search.study.half_made import STUDY, discard_study
from wb.search.study.memory import check_memory
from wb.search.study.seeds import enqueue, regular_choices, seed_choices
from wb.search.study.storage import check_answers, without_password
from wb.search.study.study import check_study, create_study, load_study
from wb.search.supernet import Supernet
from wb.search.told import Teller
from wb.search.trained.start import space_of
from wb.tasks.known import task_of


@dataclass(frozen=True)
class Search:
    """One search: configuration and run folder; calling it does what is not done yet and returns the front.

    `workers` processes evaluate candidates, this one included, the others on the cluster at the address `ray` if there is one;
    where nothing is said of them, one does, and two may train networks alone. A new search may `start` its supernet from a
    model, which several `processes` may train.
    """

    config: SearchConfig
    run: Run
    progress: Progress
    workers: int | None = None
    start: Model | None = None
    ray: str | None = None
    processes: Processes = ONE

    def __call__(self, *, resume: bool = False) -> list[FrontPoint]:
        """Runs every stage that the run folder does not show as done and that no other process does.

        Raises:
            WbError: the data, the options, the budget or the storage have a fault; finished stages stay.
        """
        start = time.perf_counter()
        if not self.run.front_path.is_file():
            self._check_engines()
        ground = self._ground()
        try:
            return self._do(ground, resume, start)
        finally:
            with suppress(OSError):
                self._crew.disband(whole=not self.run.record_path.exists())

    def _do(self, ground: Ground, resume: bool, start: float) -> list[FrontPoint]:
        with self._sole("until it has trained the supernet"):
            stages = self._continued(ground) if resume else self._begun(ground, start)
            if stages.finished():
                return self._there()
            supernet = stages.supernet()
            first = dict(zip(self.config.seed_texts, ground.seeds, strict=True))
            first |= regular_choices(ground.space, stages.config.trials, stages.config.limits)
            enqueue(stages.study, ground.space, first)
        seconds = stages.search(supernet, self._workers, self.ray)
        with self._sole("until it has written the front"):
            stages.read_again()
            if stages.finished():
                return self._there()
            points = stages.finish(supernet, seconds, self._hands(ground))
            self._report()
        return points

    def _check_engines(self) -> None:
        """Finds out whether storage and cluster answer while nothing is done yet; they are needed behind a long training."""
        if self.config.storage is not None:
            check_answers(self.config.storage)
        if self.ray is not None:
            with self._tell.task("looking for the cluster of Ray"):
                check_ray(self.ray, self.config, self.run)

    def _there(self) -> list[FrontPoint]:
        """The front of a finished run, whose page may be missing where the last command was ended just before it."""
        if not self.run.report_path.exists():
            self._report()
        return self.run.read_front()

    def _report(self) -> None:
        write_report(replace(self.run, reached=self.config.storage))

    def assist(self) -> None:
        """Only evaluates candidates, together with other processes; the run has its supernet already.

        Raises:
            WbError: as a search does.
        """
        stages = self._assisting(elsewhere=False)
        stages.evaluate(self._trained(stages), self._workers)

    def join(self) -> int:
        """Evaluates candidates in `workers` processes, in a folder that stands in for the run's; returns how many all have done.

        Raises:
            OtherMachine: this machine is not like that of the run.
            WbError: as a search does.
        """
        stages = self._assisting(elsewhere=True)
        check_same(stages.record, stages.ground.device, stages.ground.places.devices.values())
        others = len(stages.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))
        with Helpers(self.config, self.run.folder, self._workers - 1, self._workers + others, self._tell.say):
            return stages.evaluate(self._trained(stages), self._workers + others)

    def _assisting(self, *, elsewhere: bool) -> Ending:
        """The stages of a run that another process began."""
        ground = self._ground()
        record = self.run.read()
        record.check_data(self.config.data, ground.data.fingerprint, elsewhere=elsewhere)
        return Ending(record, ground, load_study(self.run.storage(self.config), record.study))

    def _trained(self, stages: Ending) -> Supernet:
        return Supernet.load(self.run.supernet_path, stages.ground.space)

    @cached_property
    def _crew(self) -> Crew:
        return Crew(self.run.folder, shared=self.config.storage is not None or self.ray is not None)

    @property
    def _workers(self) -> int:
        return self.workers or 1

    def _hands(self, ground: Ground) -> int:
        """How many processes train networks alone."""
        return hands_of(self.workers or unsaid(self.config, ground.data), self.config.threads, self.ray)

    @cached_property
    def _tell(self) -> Teller:
        return Teller(self.progress)

    def _ground(self) -> Ground:
        """Reads the data, and checks everything that can be checked before anything is written."""
        config = self.config
        torch.set_num_threads(config.threads)
        device = parse_device(config.device, threads=config.threads).scoring(config.score_on)
        with self._tell.task("reading the data") as task:
            data = load_data(
                config.data, image_size=config.image_size, limit=config.limit, progress=self._tell.counter(task)
            )
        space = space_of(config, data)
        check_metrics(config, space)
        check_memory(space)
        check_retrain(config, data)
        places = places_of(config)
        places.check(space)
        seeds = seed_choices(space, config.seeds)
        if config.baselines:
            check_baselines(space)
        if config.tabulated:
            LatencyTable(device).check()
        if self.run.record_path.exists():  # a helper, or a run that is resumed
            record = self.run.read()
            places.same_as(record.devices)
            places = Places(places.devices, record.paces)
        crew = self._crew
        return Ground(config, self.run, device, data, space, seeds, crew, self._tell, places, self.processes)

    def _begun(self, ground: Ground, start: float) -> Ending:
        """Begins a new run: checks and probes that take a moment, then `run.json`. `start` is when the search was called."""
        if self.run.record_path.exists():
            raise BadOption(
                f"another process began a run in {self.run.folder}; choose another --out, or continue it with --resume "
                f"{self.run.folder}"
            )
        with self._tell.task("timing the reference graph"):
            pace = reference_pace(
                ground.device
            )  # before the study: a run has both its study and its record, or neither
            ground = replace(ground, places=ground.places.paced(ground.device, pace))
        with self._tell.task("checking the budget"):
            check_budget(self.config, ground.space, ground.data, ground.device, ground.places)
        try:
            return self._recorded(*self._planned(ground, start), pace)
        except BaseException:
            discard_study(self.run.folder)
            raise

    def _planned(self, ground: Ground, start: float) -> tuple[Ground, TimePlan | None]:
        """The ground with all settings of the configuration, and how a given time is used."""
        hands = self._hands(ground)
        config, plan = retrained(settled(self.config), ground.data, hands), None
        if config.time is not None:
            with self._tell.task("timing steps and evaluations") as task:
                plan = planned(
                    config,
                    ground.space,
                    ground.data,
                    ground.device,
                    self._workers,
                    lambda: time.perf_counter() - start,
                    lambda what: self._tell.update(task, what, 0),
                    ground.places,
                    ground.processes.faster(len(usable_cores()) // config.threads),
                    hands,
                )
            self._tell.say(plan.text())
            if hands > self._workers:
                self._tell.say(f"networks are trained alone in {hands} processes at once (--workers 1: in one)")
            if config.retrain and not self.config.retrain:
                examples = f"on validation {ground.data.train.noun} too"
                self._tell.say(f"in the end the front is trained once more, {examples} (--no-retrain: it is not)")
            config = plan.applied(config)
        held = ground.data.validation
        for note in filter(None, [warning(len(held), held.noun)]):
            self._tell.say(note)
        return replace(ground, config=config), plan

    def _recorded(self, ground: Ground, plan: TimePlan | None, pace: Reading) -> Ending:
        """Creates the study, then writes `run.json`."""
        config = ground.config
        name = STUDY if config.storage is None else f"wb-{uuid4().hex[:12]}"
        discard_study(self.run.folder)
        study = create_study(self.run.storage(config), name, config.metrics)
        record = RunRecord(
            **origin(ground.device.text),
            config=config.model_copy(update={"storage": config.storage and without_password(config.storage)}),
            quality=task_of(ground.space.largest()).metric,
            study=name,
            data=_described(ground.data),
            held_back=held_back(ground.data),
            plan=plan,
            pace=pace,
            devices={name: unaddressed(one.text) for name, one in ground.places.devices.items()},
            paces=ground.places.paces,
        )
        if self.start is not None:
            save(self.start, self.run.start_path, force=True)
        self.run.write(record)
        return Ending(record, ground, study)

    def _continued(self, ground: Ground) -> Ending:
        record = self.run.read()
        record.check_data(self.config.data, ground.data.fingerprint)
        _check_device(record, ground.device)
        if self.config.require != record.config.require:
            with self._tell.task("checking the requirements"):
                check_budget(self.config, ground.space, ground.data, ground.device, ground.places)
        config = self.config.model_copy(update={"storage": record.config.storage})
        record = record.model_copy(update={"config": config})
        url = self.run.storage(self.config)
        study = load_study(url, record.study)
        check_study(url, study, config.metrics, config.limits, ground.space)
        self.run.write(record)
        others = len(self._crew.others())
        if others:
            who = "another process evaluates" if others == 1 else f"{others} other processes evaluate"
            self._tell.say(f"{who} candidates of {self.run.folder}; this one joins in")
        return Ending(record, ground, study)

    @contextmanager
    def _sole(self, until: str) -> Iterator[None]:
        """Waits until no other process works on the run, and keeps others out; tells the user if it has to wait."""
        task: list[TaskID] = []

        def waiting() -> None:
            self._tell.say(f"another process is at work on {self.run.folder}; waiting {until}")
            task.append(self.progress.add_task("waiting for another process", total=None))

        with self._crew.sole(waiting):
            for each in task:
                self.progress.stop_task(each)
            yield


def _described(data: Dataset) -> DataRecord:
    return DataRecord(
        spec=data.spec,
        fingerprint=data.fingerprint,
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        image=(data.channels, data.height, data.width) if data.train.vocabulary is None else None,
        examples=None if data.train.vocabulary is None else data.train.described,
        classes=data.classes,
    )


def _check_device(record: RunRecord, device: Device) -> None:
    """Raises `BadOption` if another device, or another runtime, than in the beginning answers at an address."""
    before, now = (unaddressed(text) for text in (record.machine["device"], device.text))
    if device.address is not None and before != now:
        raise BadOption(
            f"the latencies of this run are of {before}, and {now} answers at {device.address} now; they do not go together. "
            "Begin a new run"
        )
