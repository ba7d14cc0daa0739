"""Finalists, and known networks beside them, are trained alone, or read back where an interrupted search has left them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.data import Dataset
from wb.models.model import Model, load, save
from wb.models.passes.base import apply
from wb.search.crew.hands import LARGEST, Hands, Order
from wb.search.results.curves import Curves
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.training.fit import Recipe
from wb.training.train import Finetune

Teach = Callable[[Tensor], Tensor]


class Who(NamedTuple):
    """A teacher, and how another process gets it: the supernet's largest network, or the file of a finalist. None: nobody."""

    teach: Teach | None
    source: Path | str | None = LARGEST


@dataclass(frozen=True)
class Tuner:
    """Makes networks of the supernet; without a `recipe` they are as they are in it. `hands` train several side by side."""

    run: Run
    supernet: Supernet
    data: Dataset
    recipe: Callable[[Architecture], Recipe] | None
    seed: int
    hands: Hands
    _epoch: list[float] = field(
        default_factory=list, init=False, repr=False
    )  # seconds of one, of networks trained here

    def __call__(self, name: str, architecture: Architecture, folders: Sequence[Path], who: Who) -> Model:
        """The network as it will be delivered, from the first folder; if some folder has it fine-tuned, it is read back."""
        if self.recipe is None:
            return self.supernet.extract(architecture, self.data.train)
        kept = self._kept(name, architecture, folders, who)
        if kept is None:
            model = self.supernet.extract(architecture, self.data.train)
            report, start = Curves(self.run.curves_path).of(name), time.perf_counter()
            recipe = self.recipe(architecture)
            kept = apply(Finetune(self.data, recipe, who.teach, self.seed, report=report), model)
            self._epoch.append((time.perf_counter() - start) / recipe.epochs)
            save(kept, _file(folders[0], name), force=True)
        return kept

    def ahead(self, wanted: Mapping[str, Architecture], folders: Sequence[Path], who: Who) -> Iterator[str]:
        """Trains what is not there in several processes, if there are; gives the name of each that is in the first folder."""
        if self.recipe is None:
            return
        orders = {
            name: Order(
                architecture,
                self.recipe(architecture),
                _file(folders[0], name),
                who.source if who.teach else None,
                name,
            )
            for name, architecture in wanted.items()
            if self._kept(name, architecture, folders, who) is None
        }
        epochs = sum(order.recipe.epochs for order in orders.values())
        if self.hands.pay(max(self._epoch) * epochs if self._epoch else None):
            yield from self.hands(orders)

    def _kept(self, name: str, architecture: Architecture, folders: Sequence[Path], who: Who) -> Model | None:
        """The network as some folder has it fine-tuned."""
        if self.recipe is None:
            return None
        tuned = Finetune(self.data, self.recipe(architecture), who.teach, self.seed).step
        history = (self.supernet.step(self.data.train), tuned)
        for path in (_file(folder, name) for folder in folders):
            with suppress(BadArtefact):  # a missing or damaged file is made again
                kept = load(path)
                steps = tuple(one for one in kept.history if one.name != "search")
                if kept.architecture == architecture and steps == history:
                    found = replace(kept, history=steps)
                    if path.parent != folders[0]:  # where it stays if only a twin of it is on the front
                        save(found, folders[0] / path.name, force=True)
                    return found
        return None


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"
