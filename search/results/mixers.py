"""Which mixers the networks of a front have, at which depth and for how many tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.records import kind_of

THIRDS = ("first third", "middle", "last third")  # of the blocks of a network
NONE = "none"


class Used(NamedTuple):
    """How often a mixer is used for so many tokens: blocks by the third of their network, and the networks that have one."""

    kind: str
    tokens: int
    blocks: tuple[int, int, int]
    networks: int

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of a table."""
        return (
            self.kind,
            f"{self.tokens:,}",
            *(str(count) if count else "-" for count in self.blocks),
            str(self.networks),
        )


COLUMNS = ("mixer", "tokens", *THIRDS, "networks")


def used(architectures: Iterable[Architecture]) -> tuple[Used, ...]:
    """The mixers of these networks, for many tokens first; of equal numbers those used most. Counted.

    A block without a mixer counts as "none"; networks of texts have the tokens that counts and latencies are of.
    """
    blocks: dict[tuple[str, int], Counter[int]] = {}
    networks: Counter[tuple[str, int]] = Counter()
    for a in (architecture.usual.compact() for architecture in architectures):
        tokens = [layout.tokens for layout in a.layouts()]
        places = [
            (NONE if block.mixer is None else kind_of(type(block.mixer)), tokens[i])
            for i, stage in enumerate(a.stages)
            for block in stage.blocks
        ]
        for number, place in enumerate(places):
            blocks.setdefault(place, Counter())[3 * number // len(places)] += 1
        networks.update(set(places))
    found = [Used(*place, (count[0], count[1], count[2]), networks[place]) for place, count in blocks.items()]
    return tuple(sorted(found, key=lambda one: (-one.tokens, -sum(one.blocks), one.kind)))
