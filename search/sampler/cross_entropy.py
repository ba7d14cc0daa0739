"""Proposals by a generator: cross-entropy on predictors, from what the archive shows of a requirement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wb.core.measures.requirements import Asked
from wb.predictors.features import Floats, Indices
from wb.search.sampler.generator import Generator
from wb.search.sampler.inquisitor import Archive, Inquisitor

ROUNDS = 10
DRAWN = 400  # networks in each round
ELITE = 0.15  # share of a round that the generator learns from
STEP = 0.5  # share of what it learns in a round
BEST = 0.2  # share of the archive, at least FEWEST of it, that the generator starts from
FEWEST = 8
TRIES = 8  # draws of a round, at most, where best practice rules some out
APART = 2  # genes in which any two networks of a batch differ, at least
PRIOR = 0.1  # share of a batch that is drawn from the prior

Kept = Callable[[Indices], NDArray[np.bool_]]


@dataclass(frozen=True)
class Generated:
    """What cross-entropy ended with: the generator, and all distinct networks drawn on the way, the best first."""

    generator: Generator
    rows: Indices
    scores: Floats


def start(generator: Generator, archive: Archive, asked: Asked) -> Generator:
    """The smoothed counts of the best fifth of the archive."""
    order = archive.ordered(asked)
    return generator.fitted(archive.rows[order[: max(FEWEST, round(BEST * len(order)))]])


def generate(
    starts: Sequence[Generator], inquisitor: Inquisitor, rng: np.random.Generator, kept: Kept | None = None
) -> Generated:
    """Ten rounds of cross-entropy on predictions: draw, score, and move half-way to the counts of the best.

    The first round draws from each of `starts` alike; the generator begins as the mean of them. Only networks that are `kept`
    count, unless none is.

    Source: Rubinstein, The cross-entropy method for combinatorial and continuous optimization, 1999.
    Differs: the scores are predictions, so that rounds cost no evaluation; what is evaluated next is the best of all that was
    drawn, not the last draw.
    """
    generator = starts[0]
    for number, other in enumerate(starts[1:], start=2):
        generator = generator.mixed(other, 1 / number)
    drawn, scores = [], []
    for at in range(ROUNDS):
        rows = draw(starts if at == 0 else [generator], DRAWN, rng, kept)
        drawn.append(rows)
        scores.append(inquisitor.score(rows))
        best = np.argsort(-scores[-1], kind="stable")[: max(FEWEST, round(ELITE * len(rows)))]
        generator = generator.mixed(generator.fitted(rows[best]), STEP)
    rows, first = np.unique(np.concatenate(drawn), axis=0, return_index=True)
    found = np.concatenate(scores)[first]
    order = np.argsort(-found, kind="stable")
    return Generated(generator, rows[order], found[order])


def draw(sources: Sequence[Generator], count: int, rng: np.random.Generator, kept: Kept | None = None) -> Indices:
    """Distinct rows that are kept, up to about `count`, as many from each source; if none is kept, others."""
    found: list[Indices] = []
    for _ in range(1 if kept is None else TRIES):
        rows = np.unique(np.concatenate([one.draw(count // len(sources), rng) for one in sources]), axis=0)
        found.append(rows if kept is None else rows[kept(rows)])
        if sum(map(len, found)) >= count // 2:
            break
    together = np.unique(np.concatenate(found), axis=0)
    return together if len(together) else rows


def batch_of(
    generated: Generated, prior: Indices, taken: AbstractSet[bytes], count: int, apart: int = APART
) -> list[Indices]:
    """Up to `count` rows that are not taken: the best that differ in `apart` genes, one in ten from `prior`."""
    chosen: list[Indices] = []

    def add(rows: Indices, until: int, least: int) -> None:
        for row in rows:
            if len(chosen) >= until:
                return
            if row.tobytes() not in taken and all((row != other).sum() >= least for other in chosen):
                chosen.append(row)

    add(generated.rows, count - round(PRIOR * count), apart)
    add(prior, count, 1)
    add(generated.rows, count, 1)
    return chosen
