"""What the inner search starts from: variants of known candidates in which coupled genes agree."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from wb.core.space import Choices, Option
from wb.predictors.features import Encoder
from wb.search.proposals import uniform_rows


class Mixed:
    """Three coupled genes, one of which lacks the smallest option, and a depth that switches the last one off."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (1, 2),
        "stem": ("int8", "fp32"),
        "0.kept": ("int4", "int8", "fp32"),
        "1.kept": ("int4", "int8", "fp32"),
    }
    coupled: ClassVar[tuple[tuple[str, ...], ...]] = (("stem", "0.kept", "1.kept"),)

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(list(self.genes)[: 2 + int(choices["depth"])])


def test_coupled_genes_agree_where_they_can_and_nothing_else_changes() -> None:
    encoder = Encoder(Mixed())
    start: list[Choices] = [{"depth": 2, "stem": "fp32", "0.kept": "int8", "1.kept": "int4"}]
    rows = uniform_rows(encoder, encoder.indices(start))
    assert [encoder.choices(row) for row in rows] == [
        {"depth": 2, "stem": "int8", "0.kept": "int8", "1.kept": "int8"},
        {"depth": 2, "stem": "fp32", "0.kept": "fp32", "1.kept": "fp32"},
        {"depth": 2, "stem": "fp32", "0.kept": "int4", "1.kept": "int4"},
    ]


def test_variants_are_canonical_and_distinct() -> None:
    encoder = Encoder(Mixed())
    start: list[Choices] = [{"depth": 1, "stem": stem, "0.kept": "int4", "1.kept": "fp32"} for stem in ("int8", "fp32")]
    rows = uniform_rows(encoder, encoder.indices(start))
    assert np.array_equal(rows, encoder.canonical(rows))
    assert len(rows) == len(np.unique(rows, axis=0)) == 4  # int8, fp32, and int4 with either stem


def test_a_space_without_coupled_genes_has_none() -> None:
    class Plain:
        genes = Mixed.genes

        def active(self, choices: Choices) -> frozenset[str]:
            return frozenset(choices)

    encoder = Encoder(Plain())
    assert uniform_rows(encoder, encoder.canonical(np.ones((3, 4), dtype=np.int64))).shape == (0, 4)
