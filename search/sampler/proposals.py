"""What to evaluate next: the first candidates, and batches that are predicted to add most hypervolume."""

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

POOL = 400  # of what the inner search saw, as many are looked at one by one
NEAR = 0.4  # this share of the evaluations, by rank of dominance, counts as close to the front
VARIANTS = 40  # of known candidates, in what the inner search starts from
FAR_IMPORTANCE = 0.05  # of all others, when models are weighed against each other


@dataclass(frozen=True)
class Proposal:
    """A canonical row to evaluate; predicted values (minimised) and standard deviations if there were predictors."""

    row: Indices
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)


def initial_rows(encoder: Encoder, count: int, rng: np.random.Generator) -> Indices:
    """Up to `count` distinct rows: all-first, all-last, then rows whose options scatter around evenly spread places.

    With many genes, independent draws all have about the same size. A place per candidate (0 small, 1 large) spreads
    them along the front, which is where the predictors are asked later. Every other candidate is drawn independently.
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
    """Up to `count` rows that are not taken, drawn at random; none only where the space has none left.

    When random draws find nothing, the neighbours of all taken rows are tried. Any candidate is reached from any other
    over neighbours, as long as which genes matter is decided by genes that matter themselves.
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
    """Distinct variants of the rows in which genes that the space calls `coupled` have the same option, where they have it.

    A step or a crossover changes such genes one by one or at random, and what is in between need not be good: one layer in
    int8 is slower than none and than all. First come the variants of the first row, one for each option.
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
    """How much each evaluation tells about where the search goes on: much close to the front, little elsewhere.

    Predictors are asked about candidates near the front, and what is best there is not what is best on average.
    """
    order = np.lexsort((moocore.pareto_rank(values), violation))
    importance = np.full(len(values), FAR_IMPORTANCE)
    importance[order[: max(round(NEAR * len(values)), 1)]] = 1.0
    return importance


def propose(
    encoder: Encoder,
    models: Models,
    archive: Outcome,
    taken: AbstractSet[bytes],
    count: int,
    rng: np.random.Generator,
) -> list[Proposal]:
    """Up to `count` rows that are not taken, the most promising first; none where the inner search saw only taken ones."""
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
    return [Proposal(pool.rows[i], mean[i].tolist(), std[i].tolist()) for i in choose(pool, archive, count)]


def choose(pool: Outcome, archive: Outcome, count: int) -> list[int]:
    """Greedily the places in `pool` that add most hypervolume to the archive and to those already chosen.

    Rows that add nothing come after, by their rank of dominance; rows that violate a constraint last, by how much.

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
    # Entries are (minus an upper bound of the gain, place); a bound that stays first after its update is the maximum.
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
    """All rows that differ in one gene."""
    gene = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.tile(row, (len(gene), 1))
    rows[np.arange(len(gene)), gene] = np.concatenate([np.arange(size) for size in sizes])
    return rows
