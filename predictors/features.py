"""Encoding of candidates as numbers: option indices, masks of active genes, and regression features."""

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

POOLED_EMPHASIS = 10.0  # a prior: what alike genes have in common matters more than their differences


@dataclass(frozen=True)
class Layout:
    """Meaning of the feature columns."""

    emphasis: Floats
    """Factor of each standardised column, shape (columns,): the larger, the less a ridge shrinks its coefficient."""
    families: Indices
    """Family number of each column, shape (columns,). Columns of one gene, or of a group of alike genes, are one family;
    every trait is a family of its own."""
    traits: int
    """Number of trait columns; they are the last ones."""


class Encoder:
    """Converts between choices, rows of option indices, and feature vectors of a space.

    A row has one option index per gene in the order of `space.genes`. Inactive genes have index 0, so equal networks have
    equal rows ("canonical" rows). The features of a row are

    * one-hot options: one column per gene and option, 1 where an active gene has that option, else 0;
    * positions: one column per gene, the position of its option from 0 (first) to 1 (last), 0 where inactive;
    * pooled columns: per group of alike genes (e.g. the widths of all blocks) the number of active ones, and the sum and
      mean of their positions;
    * traits: numbers that the space itself computes of a candidate, if it has a method `traits` (`wb.core.space.Informed`).

    Pooled columns depend linearly on the others (except the mean). They help because a regularised model prefers one
    coefficient for "total width" to twelve separate ones, so that few samples are enough.

    Source: masking of inactive genes as in DyNAS-T, https://github.com/IntelLabs/DyNAS-T.
    Differs: positions, pooled columns and traits are added; the options of a gene are assumed to be ordered.
    Limits: genes are alike if they have equal options and names that differ in digits only. Where all genes of a space have
    such names (x0, x1, ...), only neighbours with equal options are alike.
    """

    def __init__(self, space: Genes) -> None:
        self.space = space
        self.names: tuple[str, ...] = tuple(space.genes)
        self.options: tuple[tuple[Option, ...], ...] = tuple(tuple(options) for options in space.genes.values())
        self.sizes: Indices = np.array([len(options) for options in self.options], dtype=np.int64)
        self.groups: list[list[int]] = _alike(self.names, self.options)
        self._known_traits: dict[bytes, tuple[float, ...]] = {}
        self.layout = self._make_layout(self._traits(np.zeros((1, len(self.names)), dtype=np.int64)).shape[1])
        self._places = [{option: place for place, option in enumerate(options)} for options in self.options]
        self._masks: dict[bytes, NDArray[np.bool_]] = {}

    def _make_layout(self, traits: int) -> Layout:
        family = {gene: number for number, group in enumerate(self.groups) for gene in group}
        for gene in range(len(self.names)):
            family.setdefault(gene, len(self.groups) + gene)
        genes = [family[gene] for gene in range(len(self.names))]
        pooled = [number for number in range(len(self.groups)) for _ in range(3)]
        first = len(self.groups) + len(self.names)  # larger than every number used so far
        families = [*np.repeat(genes, self.sizes), *genes, *pooled, *range(first, first + traits)]
        emphasis = np.ones(len(families))
        emphasis[len(families) - len(pooled) - traits :] = POOLED_EMPHASIS
        _, consecutive = np.unique(families, return_inverse=True)
        return Layout(emphasis, consecutive.astype(np.int64), traits)

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
        """The choices that a row encodes."""
        return {
            name: options[place] for name, options, place in zip(self.names, self.options, row.tolist(), strict=True)
        }

    def active(self, rows: Indices) -> NDArray[np.bool_]:
        """Mask of the active genes of each row, shape (rows, genes). `space.active` is called once per distinct row."""
        if not len(rows):
            return np.ones(rows.shape, dtype=np.bool_)
        return np.stack([self._mask(row) for row in rows.astype(np.int64)])

    def canonical(self, rows: Indices) -> Indices:
        """The rows with every inactive gene set to its first option."""
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
        return np.column_stack([one_hot, place, *pooled, self._traits(rows)]).astype(np.float64)

    def _traits(self, rows: Indices) -> Floats:
        """The traits of each row, shape (rows, traits); no columns if the space has none."""
        if not isinstance(self.space, Informed):
            return np.zeros((len(rows), 0))
        keys = [row.tobytes() for row in rows.astype(np.int64)]
        for key, row in zip(keys, rows, strict=True):
            if key not in self._known_traits:
                self._known_traits[key] = self.space.traits(self.choices(row))
        return np.array([self._known_traits[key] for key in keys]).reshape(len(rows), -1)

    def _mask(self, row: Indices) -> NDArray[np.bool_]:
        key = row.tobytes()
        if key not in self._masks:
            live = self.space.active(self.choices(row))
            self._masks[key] = np.array([name in live for name in self.names], dtype=np.bool_)
        return self._masks[key]


def _alike(names: Sequence[str], options: Sequence[tuple[Option, ...]]) -> list[list[int]]:
    """Groups of two or more genes that are probably the same choice at different places of the network, by index."""
    stems = [re.sub(r"\d+", "#", name) for name in names]
    anonymous = len(set(stems)) == 1
    groups: dict[tuple[str, int, tuple[Option, ...]], list[int]] = defaultdict(list)
    run = 0
    for i, (stem, of_gene) in enumerate(zip(stems, options, strict=True)):
        run += anonymous and i > 0 and of_gene != options[i - 1]
        groups[stem, run, of_gene].append(i)
    return [group for group in groups.values() if len(group) > 1]
