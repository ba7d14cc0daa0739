"""Candidates of a discrete space as numbers: option indices, activity masks and regression features."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wb.core.space import Choices, Genes, Informed, Option, check_choices

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

POOLED_EMPHASIS = 10.0  # a prior: differences between the places of alike genes are small beside what they share


@dataclass(frozen=True)
class Layout:
    """What the columns of the features are."""

    emphasis: Floats
    """What standardised columns are multiplied by: the larger, the less a column is shrunk."""
    families: Indices
    """Columns of one number tell of the same gene, or of alike genes; every trait is a family of its own."""
    told: int
    """So many of the last columns are traits."""


class Encoder:
    """Translates between choices, rows of option indices, and features of a space.

    A row has one option index per gene in the order of `space.genes`; inactive genes are at index 0, so equal networks
    have equal rows. The features of a row are

    * one column per gene and option: 1 where an active gene has that option, else 0;
    * one column per gene: the place of its option from 0 (first) to 1 (last), 0 where inactive;
    * per group of alike genes (the widths of all blocks, say): how many are active, and the sum and mean of their places;
    * what the space tells of a candidate by itself, if it has a method `traits` (`wb.core.space.Informed`).

    Group columns depend linearly on the others (the mean does not). They are there because a regularised model prefers
    one coefficient for "total width" to twelve separate ones, which is what makes few samples enough.

    Source: masking of inactive genes as in DyNAS-T, https://github.com/IntelLabs/DyNAS-T.
    Differs: places, groups and traits are added; the options of a gene are taken to be ordered.
    Limits: alike genes are recognised by equal options and by names that differ in digits only. Where that makes one
    name of all (x0, x1, ...), by equal options of neighbours.
    """

    def __init__(self, space: Genes) -> None:
        self.space = space
        self.names: tuple[str, ...] = tuple(space.genes)
        self.options: tuple[tuple[Option, ...], ...] = tuple(tuple(options) for options in space.genes.values())
        self.sizes: Indices = np.array([len(options) for options in self.options], dtype=np.int64)
        self.groups: list[list[int]] = _alike(self.names, self.options)
        self._traits: dict[bytes, tuple[float, ...]] = {}
        self.layout = self._laid_out(self._told(np.zeros((1, len(self.names)), dtype=np.int64)).shape[1])
        self._places = [{option: place for place, option in enumerate(options)} for options in self.options]
        self._masks: dict[bytes, NDArray[np.bool_]] = {}

    def _laid_out(self, told: int) -> Layout:
        family = {gene: number for number, group in enumerate(self.groups) for gene in group}
        for gene in range(len(self.names)):
            family.setdefault(gene, len(self.groups) + gene)
        genes = [family[gene] for gene in range(len(self.names))]
        pooled = [number for number in range(len(self.groups)) for _ in range(3)]
        first = len(self.groups) + len(self.names)  # above all that were given away
        families = [*np.repeat(genes, self.sizes), *genes, *pooled, *range(first, first + told)]
        emphasis = np.ones(len(families))
        emphasis[len(families) - len(pooled) - told :] = POOLED_EMPHASIS
        _, consecutive = np.unique(families, return_inverse=True)
        return Layout(emphasis, consecutive.astype(np.int64), told)

    def indices(self, candidates: Iterable[Choices]) -> Indices:
        """Canonical rows of option indices, one per candidate.

        Raises:
            NotInSpace: a gene is missing, unknown, or has a value that is not among its options.
        """
        rows = []
        for choices in candidates:
            check_choices(self.space.genes, choices, "the searched space")
            rows.append([places[choices[name]] for name, places in zip(self.names, self._places, strict=True)])
        return self.canonical(np.array(rows, dtype=np.int64).reshape(len(rows), len(self.names)))

    def choices(self, row: Indices) -> dict[str, Option]:
        """The choices that a row stands for."""
        return {
            name: options[place] for name, options, place in zip(self.names, self.options, row.tolist(), strict=True)
        }

    def active(self, rows: Indices) -> NDArray[np.bool_]:
        """Which genes matter, per row. `space.active` is asked once per distinct row."""
        if not len(rows):
            return np.ones(rows.shape, dtype=np.bool_)
        return np.stack([self._mask(row) for row in rows.astype(np.int64)])

    def canonical(self, rows: Indices) -> Indices:
        """The rows with every inactive gene at its first option."""
        return np.where(self.active(rows), rows, 0).astype(np.int64)

    def features(self, rows: Indices) -> Floats:
        """Regression features of canonical rows, shape (rows, columns); not standardised."""
        active = self.active(rows)
        one_hot = np.concatenate(
            [(rows[:, [i]] == np.arange(size)) & active[:, [i]] for i, size in enumerate(self.sizes)], axis=1
        )
        place = np.where(active, rows / np.maximum(self.sizes - 1, 1), 0.0)
        pooled = []
        for group in self.groups:
            count = active[:, group].sum(axis=1)
            total = place[:, group].sum(axis=1)
            pooled += [count, total, total / np.maximum(count, 1)]
        return np.column_stack([one_hot, place, *pooled, self._told(rows)]).astype(np.float64)

    def _told(self, rows: Indices) -> Floats:
        """The traits of each row, shape (rows, traits); no columns if the space has none."""
        if not isinstance(self.space, Informed):
            return np.zeros((len(rows), 0))
        keys = [row.tobytes() for row in rows.astype(np.int64)]
        for key, row in zip(keys, rows, strict=True):
            if key not in self._traits:
                self._traits[key] = self.space.traits(self.choices(row))
        return np.array([self._traits[key] for key in keys]).reshape(len(rows), -1)

    def _mask(self, row: Indices) -> NDArray[np.bool_]:
        key = row.tobytes()
        if key not in self._masks:
            live = self.space.active(self.choices(row))
            self._masks[key] = np.array([name in live for name in self.names], dtype=np.bool_)
        return self._masks[key]


def _alike(names: Sequence[str], options: Sequence[tuple[Option, ...]]) -> list[list[int]]:
    """Groups of two genes or more that seem to be the same choice in different places."""
    stems = [re.sub(r"\d+", "#", name) for name in names]
    anonymous = len(set(stems)) == 1
    groups: dict[tuple[str, int, tuple[Option, ...]], list[int]] = defaultdict(list)
    run = 0
    for i, (stem, of_gene) in enumerate(zip(stems, options, strict=True)):
        run += anonymous and i > 0 and of_gene != options[i - 1]
        groups[stem, run, of_gene].append(i)
    return [group for group in groups.values() if len(group) > 1]
