"""Few networks that have all parts of the catalogue between them, and most pairs of parts, for laws that take long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import combinations
from random import Random
from typing import Any

from pydantic import ValidationError

from tests.catalogue import CATALOGUE
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Plane
from wb.core.records import Part

FEW = 9  # networks that have all parts between them, at least
SAID: dict[int, tuple[object, str]] = {}  # by identity, with the value, so that the identity stays its own


def said(value: object) -> str:
    """Its `repr`, made once: records are frozen, and most are met again and again."""
    if id(value) not in SAID:
        SAID[id(value)] = value, repr(value)
    return SAID[id(value)][1]


def fits(value: object, plane: Plane) -> bool:
    """Whether a part, or a number of prefix tokens, may be in a stage with that plane."""
    return plane in value.supports.planes if isinstance(value, Part) else plane == "tokens" or not value


class Combinations:
    """Few networks, each of many parts of the catalogue at once, for laws that take long: all parts, and most pairs of them.

    Whatever records the catalogue has in a field of architecture, stage or block may come together where validation lets them.
    """

    def __init__(self, known: Mapping[str, Architecture], seed: int = 0) -> None:
        self.random, self.seen = Random(seed), set[tuple[str, ...]]()
        self.networks = list(known.values())
        stages = [stage for a in self.networks for stage in a.stages]
        blocks = [block for stage in stages for block in stage.blocks if not block.off]
        self.values = {
            kind: {name: self._distinct(getattr(one, name) for one in ones) for name in kind.model_fields}
            for kind, ones in ((Architecture, self.networks), (Stage, stages), (Block, blocks))
        }
        del self.values[Architecture]["stages"], self.values[Stage]["blocks"]
        self.fitting = cache(self._fitting)  # asked for some hundred thousand times

    @staticmethod
    def _distinct(values: Iterable[object]) -> list[object]:
        return list({said(value): value for value in values}.values())

    def _drawn(self, kind: type[Architecture | Stage | Block], planes: Mapping[str, Plane]) -> dict[str, Any]:
        """A value for each field, half of the time one that was not seen before, if there is one.

        Those of fields in `planes` compute on that plane.
        """
        fitting = {name: self.fitting(kind, name, planes.get(name)) for name in self.values[kind]}
        new = {name: [v for v, part in values if part not in self.seen] for name, values in fitting.items()}
        return {
            name: self.random.choice(new[name])
            if new[name] and self.random.random() < 0.5
            else self.random.choice(values)[0]
            for name, values in fitting.items()
        }

    def _fitting(
        self, kind: type[Architecture | Stage | Block], name: str, plane: Plane | None
    ) -> list[tuple[Any, tuple[str, ...]]]:
        """The values of a field that may be on the plane, each with what is seen of it."""
        values = self.values[kind][name]
        return [(v, (f"{name} {said(v)}",)) for v in values if plane is None or fits(v, plane)]

    def _stage(self, number: int) -> Stage:
        merges = [merge for merge in self.values[Stage]["merge"] if (merge is None) is (number == 0)]
        fields = {**self._drawn(Stage, {}), "merge": self.random.choice(merges)}
        planes = dict.fromkeys(("mixer", "ffn", "norm"), fields["plane"])
        first, *others = (Block.model_validate(self._drawn(Block, planes)) for _ in range(2 if number == 0 else 1))
        return Stage.model_validate({**fields, "blocks": (first, Block(), *others)})

    def _network(self) -> Architecture:
        while True:
            try:
                stages = tuple(self._stage(number) for number in range(self.random.randint(1, 2)))
                begins, ends = stages[0].plane, stages[-1].plane
                planes = {"position": begins, "prefix": begins, "first": begins, "last": ends}
                found = Architecture.model_validate({**self._drawn(Architecture, planes), "stages": stages})
            except ValidationError:
                continue
            if all(layout.tokens > 1 for layout in found.layouts()):  # one alone is mixed with nothing
                return found

    @staticmethod
    def parts(a: Architecture) -> set[tuple[str, ...]]:
        """Every value of a field, and every two that meet: in a block, or in it and in what is around it."""
        found: set[tuple[str, ...]] = set()
        for _, stage, block in a.blocks():
            fields = [(one, name) for one in (a, stage, block) for name in type(one).model_fields]
            values = [f"{name} {said(getattr(one, name))}" for one, name in fields if name not in ("stages", "blocks")]
            if not block.off:
                found |= {*combinations(values, 1), *combinations(values, 2)}
        return found

    def __iter__(self) -> Iterator[Architecture]:
        """Of twenty networks at random the one with most that none before it had; at last the catalogue's own for the rest."""
        whole = {part for a in self.networks for part in self.parts(a) if len(part) == 1}
        for number in range(2 * FEW):
            if number >= FEW and whole <= self.seen:
                break
            best = max((self._network() for _ in range(20)), key=lambda a: self._worth(self.parts(a) - self.seen))
            self.seen |= self.parts(best)
            yield best
        for a in self.networks:
            if any(len(new) == 1 for new in self.parts(a) - self.seen):
                self.seen |= self.parts(a)
                yield a

    @staticmethod
    def _worth(new: set[tuple[str, ...]]) -> int:
        return sum(100 if len(one) == 1 else 1 for one in new)


def in_graphs(a: Architecture) -> bool:
    """Whether graphs compute it. What they do not compute meets no other part, as its network is left out by laws of graphs."""
    return all(part.unexported is None for _, part in a.parts())


def apart(known: Iterable[Architecture]) -> Iterator[Architecture]:
    """Those of the catalogue that no graph computes and that have a part which none of the known ones has."""
    seen = {part for a in known for part in Combinations.parts(a)}
    for a in CATALOGUE.values():
        if not in_graphs(a) and any(len(new) == 1 for new in Combinations.parts(a) - seen):
            seen |= Combinations.parts(a)
            yield a


EXPORTED = {
    f"combined-{number}": a
    for number, a in enumerate(Combinations({name: a for name, a in CATALOGUE.items() if in_graphs(a)}))
}
COMBINED = EXPORTED | {f"combined-apart-{number}": a for number, a in enumerate(apart(EXPORTED.values()))}
