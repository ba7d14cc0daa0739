"""Hands that do in the test's process what other processes do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from wb.search.beginning.config import SearchConfig
from wb.search.crew.hands import Hands, Order

Key = TypeVar("Key")


class Here(Hands):
    """Has `train` do orders; every third is left to the caller if `leaves`. What is done is in `done`, in order."""

    def __init__(
        self, config: SearchConfig, folder: Path, train: Callable[[Order], None], *, leaves: bool = False
    ) -> None:
        super().__init__(config, folder, 2, print)
        self.train, self.leaves, self.done = train, leaves, list[object]()

    def pay(self, seconds: float | None) -> bool:
        return True

    def __call__(self, orders: Mapping[Key, Order], glance: Callable[[], None] = lambda: None) -> Iterator[Key]:
        for i, (key, order) in enumerate(orders.items()):
            if self.leaves and i % 3 == 2:
                continue
            self.train(order)
            self.done.append(key)
            glance()
            yield key
