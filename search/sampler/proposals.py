"""Proposals of the guided sampler: initial candidates, then batches with the largest predicted hypervolume gain."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import moocore
import numpy as np

from wb.core.space import Coupled
from wb.predictors.features import Encoder, Floats, Indices
from wb.search.sampler.hypervolume import hypervolume, nondominated, reference_point
from wb.search.sampler.inner import POPULATION, Models, Outcome, search

POOL = 400  # the best rows of the inner search, among which a batch is chosen
NEAR = 0.4  # share of the evaluations, by rank of dominance, that count as close to the front
VARIANTS = 40  # coupled variants of known candidates that the inner search also starts from, at most
FAR_IMPORTANCE = 0.05  # weight of evaluations far from the front, relative to those close to it


@dataclass(frozen=True)
class Proposal:
    """A canonical row to evaluate, with predicted objectives (minimised) and standard deviations if predictors exist."""

    row: Indices
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)


def initial_rows(encoder: Encoder, count: int, rng: np.random.Generator) -> Indices:
    """Up to `count` distinct rows: the smallest network, the largest, then random ones spread from small to large.

    With many genes, uniform draws all have about the same size. So every second row is drawn around a level between 0
    (small) and 1 (large), and the levels are spread evenly: the rows then lie along the front, where the predictors are
    needed later. The other rows are drawn uniformly.
    """
    sizes = encoder.sizes
    levels = rng.permutation((np.arange(count) + rng.random(count)) / count)
    rows = [np.zeros(len(sizes), dtype=np.int64), sizes - 1]
    for i, level in enumerate(levels):
        place = rng.random(len(sizes))
        if i % 2:
            place = rng.beta(0.5 + 3 * level, 0.5 + 3 * (1 - level), len(sizes))
        rows.append(np.minimum((place * sizes).astype(np.int64), sizes - 1))
    return np.array(_distinct(encoder.canonical(np.array(rows)))[:count])


def unseen_rows(encoder: Encoder, taken: AbstractSet[bytes], count: int, rng: np.random.Generator) -> list[Indices]:
    """Up to `count` random rows that are not taken; none only if the space has no others.

    If all random draws are taken, the neighbours of all taken rows are tried. Any candidate can be reached from any other
    through neighbours, provided that only active genes decide which genes are active.
    """
    drawn = encoder.canonical(rng.integers(0, encoder.sizes, (20 * count, len(encoder.sizes))))
    found = [row for row in _distinct(drawn) if row.tobytes() not in taken]
    if not found:
        for key in taken:
            neighbours = encoder.canonical(_neighbours(np.frombuffer(key, dtype=np.int64), encoder.sizes))
            found += [row for row in neighbours if row.tobytes() not in taken]
        found = _distinct(found)
    return found[:count]


def uniform_rows(encoder: Encoder, rows: Indices) -> Indices:
    """Distinct variants of the rows, in each of which one set of `coupled` genes of the space has the same option.

    Genes that lack the option stay. Mutation and crossover change coupled genes separately, and the rows in between may be
    worse than both ends: one layer in int8 is slower than none and than all. The variants of the first row come first.
    """
    sets = encoder.space.coupled if isinstance(encoder.space, Coupled) else ()
    found = []
    for row, names in itertools.product(rows, sets):
        genes = [encoder.names.index(name) for name in names]
        for option in dict.fromkeys(option for gene in genes for option in encoder.options[gene]):
            having = [gene for gene in genes if option in encoder.options[gene]]
            variant = row.copy()
            variant[having] = [encoder.options[gene].index(option) for gene in having]
            found.append(variant)
    return np.array(_distinct(encoder.canonical(np.array(found)))) if found else rows[:0]


def closeness(values: Floats, violation: Floats) -> Floats:
    """Weight of each evaluation when models are weighted against each other: 1 close to the front, little elsewhere.

    Predictors are used near the front, and the model that is best there need not be the best on average.
    """
    order = np.lexsort((moocore.pareto_rank(values), violation))
    importance = np.full(len(values), FAR_IMPORTANCE)
    importance[order[: max(round(NEAR * len(values)), 1)]] = 1.0
    return importance


def propose(
    encoder: Encoder,
    models: Models,
    archive: Outcome,
    pending: Indices,
    taken: AbstractSet[bytes],
    count: int,
    rng: np.random.Generator,
) -> list[Proposal]:
    """Up to `count` untaken rows found by the inner search, the most promising first; none if it visited only taken ones.

    The rows of `pending` are believed to have their predicted values, so that what they will add is not counted twice.
    """
    order = np.lexsort((rng.random(len(archive.rows)), moocore.pareto_rank(archive.values), archive.violation))
    start = archive.rows[order[: POPULATION // 2]]
    variants = uniform_rows(encoder, start)[:VARIANTS]
    seen = search(encoder, models, np.array(_distinct([*start, *variants])), rng)
    seen = seen[np.flatnonzero([row.tobytes() not in taken for row in seen.rows])]
    if not len(seen.rows):
        return []
    pool = seen[np.lexsort((moocore.pareto_rank(seen.values), seen.violation))[:POOL]]
    features = encoder.features(pool.rows)
    mean, std = (np.stack(part, axis=1) for part in zip(*(m.predict(features) for m in models.objectives), strict=True))
    known = archive + models.outcome(encoder, pending) if len(pending) else archive
    return [Proposal(pool.rows[i], mean[i].tolist(), std[i].tolist()) for i in choose(pool, known, count)]


def choose(pool: Outcome, archive: Outcome, count: int) -> list[int]:
    """Indices of `count` rows in `pool`, chosen greedily by the hypervolume that each adds to the archive and those before it.

    Rows that add nothing follow, by rank of dominance. Rows that violate a constraint come last, by the amount of violation.

    Source: lazy greedy maximisation, Minoux, Accelerated greedy algorithms (1978); hypervolume gains only shrink.
    """
    feasible = archive.violation <= 0
    base = archive.values[feasible] if feasible.any() else archive.values
    low, span = base.min(axis=0), np.ptp(base, axis=0)
    span[span == 0] = 1.0
    values = (pool.values - low) / span
    front = nondominated((base - low) / span)
    reference = reference_point(front)
    if not feasible.any():
        front = front[:0]
    chosen: list[int] = []
    volume = hypervolume(front, reference)
    # Entries: (minus an upper bound of the gain, index). An updated bound that is still first is the true maximum.
    queue = [(-np.inf, int(i)) for i in np.flatnonzero(pool.violation <= 0)]
    while queue and len(chosen) < count:
        _, i = heapq.heappop(queue)
        gain = hypervolume(np.vstack([front, values[i]]), reference) - volume
        if gain <= 0:
            continue
        if queue and gain < -queue[0][0]:
            heapq.heappush(queue, (-gain, i))
            continue
        chosen.append(i)
        front = np.vstack([front, values[i]])
        volume += gain
    others = np.lexsort((values.sum(axis=1), moocore.pareto_rank(values), pool.violation))
    return (chosen + [int(i) for i in others if i not in set(chosen)])[:count]


def _distinct(rows: Iterable[Indices]) -> list[Indices]:
    return list({row.tobytes(): row for row in rows}.values())


def _neighbours(row: Indices, sizes: Indices) -> Indices:
    """All rows that differ from `row` in at most one gene."""
    gene = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.tile(row, (len(gene), 1))
    rows[np.arange(len(gene)), gene] = np.concatenate([np.arange(size) for size in sizes])
    return rows
