"""ListOps, generated: expressions in prefix form, whose value is one digit.

Source: Nangia and Bowman, "ListOps: A Diagnostic Dataset for Latent Tree Learning", 2018, https://arxiv.org/abs/1804.06028.
Differs: expressions are short and at most two deep, so that a small network learns something of them in a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from wb.data.readers.parts import Parts
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import WORDS, written

SEED = 20181106  # must never change, or results on the data would no longer be comparable
SIZES = {"train": 4_000, "validation": 500, "test": 1_000}
DEPTH, DEEPER = 2, 0.25  # how deep expressions are, and the share of arguments that are expressions
ARGUMENTS = (2, 5)  # from and below


def median(values: list[int]) -> int:
    """The lower of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]


OPERATIONS: Mapping[str, Callable[[list[int]], int]] = {
    "MAX": max,
    "MIN": min,
    "MED": median,
    "SM": lambda values: sum(values) % 10,
}


def read(*, truncate: bool = False) -> Parts:
    """All expressions, the same in every call; a network that reads shorter ones may `truncate` them."""
    # RandomState and not default_rng: numpy promises that this stream never changes.
    random = np.random.RandomState(SEED)
    found: dict[str, list[tuple[str, int]]] = {"train": [expression(random, DEPTH) for _ in range(SIZES["train"])]}
    seen = {text for text, _ in found["train"]}
    for role in ("validation", "test"):
        found[role] = _unseen(random, SIZES[role], seen)
    texts = [[text for text, _ in part] for part in found.values()]
    vocabulary, ids = written(texts, WORDS, truncate=truncate)
    parts = [
        texts_of(own, [value for _, value in part], vocabulary, rows)
        for own, part, rows in zip(texts, found.values(), ids, strict=True)
    ]
    return Parts(tuple(map(str, range(10))), parts[0], parts[1], parts[2], (), ("generated",) * 3)


def expression(random: np.random.RandomState, depth: int) -> tuple[str, int]:
    """A random expression and its value: `[MAX 4 [MIN 2 3 ] 1 ]`, 4."""
    name = list(OPERATIONS)[random.randint(len(OPERATIONS))]
    parts = [
        expression(random, depth - 1) if depth > 1 and random.rand() < DEEPER else _digit(random)
        for _ in range(random.randint(*ARGUMENTS))
    ]
    return f"[{name} {' '.join(text for text, _ in parts)} ]", OPERATIONS[name]([value for _, value in parts])


def _unseen(random: np.random.RandomState, count: int, seen: set[str]) -> list[tuple[str, int]]:
    """So many expressions that are not yet seen, all different: what is remembered cannot help there."""
    found = list[tuple[str, int]]()
    while len(found) < count:
        text, value = expression(random, DEPTH)
        if text not in seen:
            seen.add(text)
            found.append((text, value))
    return found


def _digit(random: np.random.RandomState) -> tuple[str, int]:
    value = int(random.randint(10))
    return str(value), value
