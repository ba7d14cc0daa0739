"""The generator: a distribution over the networks of a space, one categorical per gene given its parent gene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wb.core.space import Option
from wb.predictors.features import Encoder, Floats, Indices

PSEUDO = 0.3  # of each option, in counts
PROBES = 10  # candidates around which it is tried which genes switch others on


@dataclass(frozen=True)
class Ancestry:
    """Which gene each gene depends on, derived from the space's `active`.

    `parents` holds for each gene the index of the gene that switches it on, -1 for none: of several the one that depends on
    most others itself, so that a depth switches on a mixer and the mixer its heads. `order` has parents before children.
    """

    parents: tuple[int, ...]
    order: tuple[int, ...]

    @staticmethod
    def of(encoder: Encoder) -> Ancestry:
        """The ancestry of the genes, found by changing each gene of a few candidates to each of its options."""
        decides = _decides(encoder)
        genes = range(len(encoder.sizes))
        level = [0] * len(genes)
        for _ in genes:  # as often as the longest possible chain has links; a cycle ends with it
            level = [1 + max((level[p] for p in genes if decides[p, g]), default=-1) for g in genes]
        parents = []
        for g in genes:
            above = [p for p in genes if decides[p, g] and level[p] < level[g]]
            parents.append(max(above, key=lambda p: (level[p], p < g, p), default=-1))
        return Ancestry(tuple(parents), tuple(sorted(genes, key=lambda g: level[g])))


def _decides(encoder: Encoder) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """[p, g]: whether gene p decides if another gene g is active, around some candidate."""
    rng = np.random.default_rng(0)
    sizes = encoder.sizes
    bases = [np.zeros_like(sizes), sizes - 1, *rng.integers(0, sizes, (PROBES - 2, len(sizes)))]
    found = np.zeros((len(sizes), len(sizes)), dtype=np.bool_)
    for base in bases:
        for p, size in enumerate(sizes):
            rows = np.tile(base, (size, 1))
            rows[:, p] = np.arange(size)
            masks = encoder.active(rows)
            found[p] |= masks.any(axis=0) & ~masks.all(axis=0)
    np.fill_diagonal(found, False)
    return found


class Generator:
    """Draws networks: every gene from a categorical given the option of its parent. Inactive genes have their first option.

    `tables` has an array for each gene, (options of the parent, or 1 without one; options), whose rows sum to one.
    """

    def __init__(self, encoder: Encoder, ancestry: Ancestry, tables: Sequence[Floats]) -> None:
        self.encoder, self.ancestry, self.tables = encoder, ancestry, list(tables)

    @staticmethod
    def uniform(encoder: Encoder, ancestry: Ancestry) -> Generator:
        """Every option as probable as the others: what is known before anything is evaluated."""
        sizes = encoder.sizes
        return Generator(
            encoder,
            ancestry,
            [
                np.full((1 if p < 0 else sizes[p], size), 1 / size)
                for p, size in zip(ancestry.parents, sizes, strict=True)
            ],
        )

    def fitted(self, rows: Indices) -> Generator:
        """The smoothed counts of canonical rows. Where a parent's option is rare, a table leans on the counts of all rows."""
        active = self.encoder.active(rows)
        tables = []
        for gene, (size, parent) in enumerate(zip(self.encoder.sizes, self.ancestry.parents, strict=True)):
            live = rows[active[:, gene]]
            counts = np.zeros((1 if parent < 0 else self.encoder.sizes[parent], size))
            of = live[:, parent] if parent >= 0 else np.zeros(len(live), dtype=np.int64)
            np.add.at(counts, (of, live[:, gene]), 1.0)
            whole = counts.sum(axis=0) + PSEUDO
            whole = whole / whole.sum()
            counts = counts + PSEUDO * size * whole
            tables.append(counts / counts.sum(axis=1, keepdims=True))
        return Generator(self.encoder, self.ancestry, tables)

    def mixed(self, other: Generator, share: float) -> Generator:
        """`share` of the other, the rest of this one, table by table."""
        tables = [(1 - share) * mine + share * its for mine, its in zip(self.tables, other.tables, strict=True)]
        return Generator(self.encoder, self.ancestry, tables)

    def draw(self, count: int, rng: np.random.Generator) -> Indices:
        """Canonical rows, (count, genes); equal ones may be among them."""
        rows = np.zeros((count, len(self.tables)), dtype=np.int64)
        for gene in self.ancestry.order:
            parent = self.ancestry.parents[gene]
            table = self.tables[gene].cumsum(axis=1)
            edges = table[rows[:, parent] if parent >= 0 else np.zeros(count, dtype=np.int64)]
            rows[:, gene] = (rng.random(count)[:, None] > edges[:, :-1]).sum(axis=1)
        return self.encoder.canonical(rows)

    def preferences(self, count: int = 1000) -> dict[str, dict[Option, float]]:
        """Gene -> option -> its share of those of `count` drawn networks in which the gene is active, if any."""
        rows = self.draw(count, np.random.default_rng(0))
        active = self.encoder.active(rows)
        found = {}
        for gene, (name, options) in enumerate(zip(self.encoder.names, self.encoder.options, strict=True)):
            live = rows[active[:, gene], gene]
            if len(live):
                shares = np.bincount(live, minlength=len(options)) / len(live)
                found[name] = dict(zip(options, shares.tolist(), strict=True))
        return found

    def load(self, tables: Mapping[str, Sequence[Sequence[float]]]) -> Generator:
        """The generator of the same space that was stored as `tables`.

        Raises:
            ValueError: the tables do not fit the space.
        """
        found = [np.array(tables.get(name, ()), dtype=np.float64) for name in self.encoder.names]
        if any(one.shape != mine.shape or not (one >= 0).all() for one, mine in zip(found, self.tables, strict=True)):
            raise ValueError("the stored generator is of another space")
        return Generator(self.encoder, self.ancestry, [one / one.sum(axis=1, keepdims=True) for one in found])

    def dump(self) -> dict[str, list[list[float]]]:
        """Gene -> its table, rounded for storing."""
        return {name: table.round(4).tolist() for name, table in zip(self.encoder.names, self.tables, strict=True)}
