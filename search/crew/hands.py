"""Processes of this machine that train networks alone, side by side: candidates at rungs, and finalists (`wb search --workers`).

Each training depends on its order alone, and leaves its network in a file. Whoever gave the orders reads them there, and trains
what is missing: a process that dies harms nothing.

Limits: one process trains where a graphics card does, as several would share it. Workers on a cluster of Ray or on other
machines evaluate candidates, and do not train.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import torch

from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.data import load as load_data
from wb.hardware.device import usable_cores
from wb.models.model import load, save
from wb.models.passes.base import apply
from wb.search.beginning.config import SearchConfig
from wb.search.crew.crew import Crew
from wb.search.crew.helpers import end_with_parent
from wb.search.crew.joining import reason_of
from wb.search.fidelity.teacher import Teacher, largest
from wb.search.fidelity.yardstick import ranking
from wb.search.results.curves import Curves
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.search.trained.start import space_of
from wb.training.fit import Recipe, TrainingDiverged, pick_device
from wb.training.train import Finetune

LARGEST = "largest"  # the teacher that is the supernet's largest network
HELD = 512 << 20  # bytes of images that several processes hold each, though nobody asked for it
START_S = 8.0  # that they take to start: libraries, data and supernet are read anew
GLANCE_S = 2.0  # between two looks at how far they are
Key = TypeVar("Key")


@dataclass(frozen=True)
class Order:
    """A sub-network of the supernet to train by a recipe, into the file `out`.

    `teacher` is the file of a network, or the supernet's largest one, or nobody. `curve` is the name of its losses among those of
    the run; None: they are not kept. `ranks` is whether it learns from what candidates learn from, and not from everything;
    `whole` whether it learns from the examples of validation too.
    """

    architecture: Architecture
    recipe: Recipe
    out: Path
    teacher: Path | str | None = LARGEST
    curve: str | None = None
    ranks: bool = False
    whole: bool = False


class Hands:
    """At most `count` processes that train; they start with the first orders, and end with the block."""

    def __init__(self, config: SearchConfig, folder: Path, count: int, say: Callable[[str], None]) -> None:
        self._start = (config, folder)
        self.count, self._say = count, say
        self._pool: ProcessPoolExecutor | None = None
        self._others: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Hands:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._end()
        elif self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _end(self) -> None:
        """Ends what they are at, which may be in the middle of a long training."""
        for process in multiprocessing.active_children():
            if process not in self._others:
                process.terminate()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def pay(self, seconds: float | None) -> bool:
        """Whether they are worth starting for what takes one process so many seconds, None if that is unknown."""
        started = self._pool is not None
        return self.count > 1 and (started or seconds is None or seconds * (1 - 1 / self.count) > START_S)

    def __call__(self, orders: Mapping[Key, Order], glance: Callable[[], None] = lambda: None) -> Iterator[Key]:
        """Trains the networks, the first orders first; gives the name of each that is done, at once, and glances meanwhile.

        What is not given could not be trained so: the caller does it, and meets the reason. So it is with one order alone.
        """
        if min(self.count, len(orders)) < 2:
            return
        futures: dict[Future[None], Key] = {}
        given: set[Key] = set()
        try:
            for key, order in orders.items():
                futures[self._submitted(order)] = key
            for future in _ended(futures, glance):
                with suppress(TrainingDiverged):  # the caller meets it, and the others go on
                    future.result()
                    given.add(futures[future])
                    yield futures[future]
        except Exception as error:  # of any kind: the caller meets it again where it trains the same network
            self.count = 1
            self._end()  # nobody writes where the caller will
            self._say(f"a process that trained ended early ({reason_of(error)}); the rest is trained here")
            done = [key for future, key in futures.items() if future.done() and not future.cancelled()]
            yield from (key for key in done if key not in given and orders[key].out.exists())

    def _submitted(self, order: Order) -> Future[None]:
        # They ignore Ctrl-C, which a terminal sends to all processes, from their first moment: this process ends them.
        here = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if here else None
        try:
            if self._pool is None:
                self._others = multiprocessing.active_children()
                context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
                self._pool = ProcessPoolExecutor(self.count, context, initializer=_begin, initargs=self._start)
            return self._pool.submit(_train, order)
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)


def _ended(futures: Collection[Future[None]], glance: Callable[[], None]) -> Iterator[Future[None]]:
    """Each as it ends, with a glance now and then."""
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=GLANCE_S, return_when=FIRST_COMPLETED)
        yield from ended
        glance()


def hands_of(workers: int, threads: int, ray: str | None = None) -> int:
    """How many processes train side by side where so many may evaluate, each with so many threads; one if those are on Ray."""
    alone = ray is not None or pick_device().type != "cpu"
    return 1 if alone else max(1, min(workers, len(usable_cores()) // threads))


def unsaid(config: SearchConfig, data: Dataset) -> int:
    """How many may train where nothing is said of workers: two in a given time, as each holds libraries and data."""
    count = len(data.train) + len(data.validation) + len(data.test)
    pixels = 0 if data.train.vocabulary is not None else count * data.channels * data.height * data.width
    return 2 if config.time is not None and pixels <= HELD else 1


class _Trainer:
    """What one process needs for any order."""

    def __init__(self, config: SearchConfig, folder: Path) -> None:
        self.config, self.run = config, Run(folder)
        self.crew, self.others = Crew(folder), dict[Path, Teacher]()

    @cached_property
    def data(self) -> Dataset:
        return load_data(self.config.data, image_size=self.config.image_size, limit=self.config.limit)

    @cached_property
    def whole(self) -> Dataset:
        return self.data.with_validation()

    @cached_property
    def supernet(self) -> Supernet:
        return Supernet.load(self.run.supernet_path, space_of(self.config, self.data))

    @cached_property
    def ranks(self) -> Dataset:
        record = self.run.read()
        return ranking(self.data, record.held_back, record.part)

    @cached_property
    def largest(self) -> Teacher:
        return largest(self.supernet)

    def __call__(self, order: Order) -> None:
        data = self.ranks if order.ranks else self.whole if order.whole else self.data
        curves = Curves(self.run.curves_path, self.crew.writing)
        report = None if order.curve is None else curves.of(order.curve)
        tune = Finetune(data, order.recipe, self._teacher(order.teacher), self.config.seed, report=report)
        save(apply(tune, self.supernet.extract(order.architecture, data.train)), order.out, force=True)

    def _teacher(self, name: Path | str | None) -> Teacher | None:
        """One object for one teacher, which remembers what it answered."""
        if name is None or name == LARGEST:
            return None if name is None else self.largest
        if Path(name) not in self.others:
            self.others[Path(name)] = Teacher(load(Path(name)).network())
        return self.others[Path(name)]


_HERE: list[_Trainer] = []  # of this process, which does nothing else


def _begin(config: SearchConfig, folder: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    log = logging.getLogger("wb")  # the parent says what is to be said of data
    log.addHandler(logging.NullHandler())
    log.propagate = False
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(config.threads)
    _HERE.append(_Trainer(config, folder))


def _train(order: Order) -> None:
    _HERE[0](order)
