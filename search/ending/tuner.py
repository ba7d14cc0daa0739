"""Finalists, and known networks beside them, are trained alone, or read back where an interrupted search has left them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.commands.progress import Count, Progress
from wb.core.errors import BadArtefact
from wb.data import Dataset
from wb.models.counting import count_macs
from wb.models.model import Model, load, save
from wb.models.passes.base import apply
from wb.search.crew.hands import LARGEST, Hands, Order
from wb.search.fidelity.teacher import Teacher
from wb.search.results.curves import Curves
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.training.fit import Recipe, TrainingDiverged
from wb.training.train import Finetune

Teach = Callable[[Tensor], Tensor]


class Who(NamedTuple):
    """A teacher, and how another process gets it: the supernet's largest network, or the file of a finalist. None: nobody."""

    teach: Teach | None
    source: Path | str | None = LARGEST


class Wanted(NamedTuple):
    """A network to make, who teaches it, and whether it learns from the `whole`: from the examples of validation too."""

    architecture: Architecture
    who: Who
    whole: bool = False


@dataclass(frozen=True)
class Tuner:
    """Makes networks of the supernet; without a `recipe` they are as they are in it. `hands` train several side by side.

    What learns from the examples of validation too has its losses among the run's no second time.
    """

    run: Run
    supernet: Supernet
    data: Dataset
    recipe: Callable[[Architecture], Recipe] | None
    seed: int
    hands: Hands
    _epoch: list[float] = field(
        default_factory=list, init=False, repr=False
    )  # seconds of one, of networks trained here

    def __call__(self, name: str, wanted: Wanted, folders: Sequence[Path], count: Count | None = None) -> Model:
        """The network, from the first folder; fine-tuned ones are read back, for others `count` hears each epoch."""
        data = self._data(wanted)
        if self.recipe is None:
            return self.supernet.extract(wanted.architecture, data.train)
        kept = self._kept(name, wanted, folders)
        if kept is None:
            model = self.supernet.extract(wanted.architecture, data.train)

            def told(epoch: int, epochs: int, _: float) -> None:
                if count is not None:
                    count(epoch, epochs)

            report = told if wanted.whole else Curves(self.run.curves_path).of(name, told)
            start, recipe = time.perf_counter(), self.recipe(wanted.architecture)
            kept = apply(Finetune(data, recipe, wanted.who.teach, self.seed, report=report), model)
            self._epoch.append((time.perf_counter() - start) / recipe.epochs)
            save(kept, _file(folders[0], name), force=True)
        return kept

    def ahead(self, wanted: Mapping[str, Wanted], folders: Sequence[Path]) -> Iterator[str]:
        """Trains what is not there in several processes, if there are; gives the name of each that is in the first folder.

        What takes longest is begun first, so that none is left to one process in the end.
        """
        if self.recipe is None:
            return
        orders = {
            name: _order(name, one, self.recipe(one.architecture), folders[0])
            for name, one in wanted.items()
            if self._kept(name, one, folders) is None
        }
        epochs = sum(order.recipe.epochs for order in orders.values())
        if self.hands.pay(max(self._epoch) * epochs if self._epoch else None):
            yield from self.hands(dict(sorted(orders.items(), key=lambda item: -_work(item[1]))))

    def twice(self, name: str, wanted: Wanted, folders: Sequence[Path], again: Sequence[Path], count: Count) -> None:
        """Trains a network and, beside it, the same on the examples of validation too, if there are processes for both.

        The other is in the first folder of `again` then, as if the network had been chosen already. `count` hears of epochs.
        """
        if self.recipe is None or not self.hands.pay(None):
            return
        both = {folders[0]: (wanted, folders), again[0]: (wanted._replace(whole=True), again)}
        recipe = self.recipe(wanted.architecture)
        orders = {
            where: _order(name, one, recipe, where)
            for where, (one, kept) in both.items()
            if self._kept(name, one, kept) is None
        }
        if len(orders) == len(both):  # one alone is trained by whoever asks for it
            curves = Curves(self.run.curves_path)
            old = curves.epochs(name)  # of an interrupted training, until the first epoch of this one

            def glance() -> None:
                nonlocal old
                done = curves.epochs(name)
                old = old if done == old else 0
                count(0 if done == old else done, recipe.epochs)

            for _ in self.hands(orders, glance):
                pass

    def _kept(self, name: str, wanted: Wanted, folders: Sequence[Path]) -> Model | None:
        """The network as some folder has it fine-tuned."""
        if self.recipe is None:
            return None
        data = self._data(wanted)
        tuned = Finetune(data, self.recipe(wanted.architecture), wanted.who.teach, self.seed).step
        history = (self.supernet.step(data.train), tuned)
        for path in (_file(folder, name) for folder in folders):
            with suppress(BadArtefact):  # a missing or damaged file is made again
                kept = load(path)
                steps = tuple(one for one in kept.history if one.name != "search")
                if kept.architecture == wanted.architecture and steps == history:
                    found = replace(kept, history=steps)
                    if path.parent != folders[0]:  # where it stays if only a twin of it is on the front
                        save(found, folders[0] / path.name, force=True)
                    return found
        return None

    def _data(self, wanted: Wanted) -> Dataset:
        return self._whole if wanted.whole else self.data

    @cached_property
    def _whole(self) -> Dataset:
        return self.data.with_validation()


def all_of(
    tuner: Tuner,
    wanted: Mapping[str, Wanted],
    folders: Sequence[Path],
    what: str,
    progress: Progress,
    failed: Callable[[str, TrainingDiverged], None] | None = None,
) -> dict[str, Model]:
    """The networks by name, several trained side by side if that can be; `progress` is told `what` is done.

    `failed` is told of one whose loss is no number any more, which is left out.

    Raises:
        TrainingDiverged: there is one, and nobody to tell.
    """
    for one in wanted.values():
        if one.whole and isinstance(one.who.teach, Teacher):
            one.who.teach.forget()  # batches are others now
    ready, made = 0, {}
    for ready, _ in enumerate(tuner.ahead(wanted, folders), start=1):
        progress(what, ready, len(wanted))
    for done, (name, one) in enumerate(wanted.items()):
        progress(what, max(done, ready), len(wanted))
        try:
            made[name] = tuner(name, one, folders)
        except TrainingDiverged as error:
            if failed is None:
                raise
            failed(name, error)
    return made


def _order(name: str, wanted: Wanted, recipe: Recipe, folder: Path) -> Order:
    """What another process is to do."""
    source = wanted.who.source if wanted.who.teach else None
    curve = None if wanted.whole else name
    return Order(wanted.architecture, recipe, _file(folder, name), source, curve, whole=wanted.whole)


def _work(order: Order) -> float:
    return order.recipe.epochs * (2 if order.recipe.rdrop else 1) * count_macs(order.architecture).value


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
