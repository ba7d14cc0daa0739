"""The encoder: canonical rows, masked features, one question per distinct candidate."""

from __future__ import annotations

import random
from typing import ClassVar

import numpy as np
import pytest

from wb.core.errors import NotInSpace
from wb.core.space import Choices, Option, canonical, random_choices
from wb.predictors.features import Encoder


class Blocks:
    """A depth and, per block, a width that matters only up to the depth."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (1, 2, 3),
        **{f"blocks.{i}.width": (8, 16, 32) for i in range(3)},
    }

    def __init__(self) -> None:
        self.asked = 0

    def active(self, choices: Choices) -> frozenset[str]:
        self.asked += 1
        return frozenset(["depth", *(f"blocks.{i}.width" for i in range(int(choices["depth"])))])


def some(count: int) -> list[dict[str, Option]]:
    rng = random.Random(0)
    return [{name: rng.choice(options) for name, options in Blocks.genes.items()} for _ in range(count)]


def test_rows_stand_for_the_canonical_choices() -> None:
    encoder, candidates = Encoder(Blocks()), some(50)
    rows = encoder.indices(candidates)
    assert [encoder.choices(row) for row in rows] == [canonical(Blocks(), c) for c in candidates]


def test_inactive_genes_leave_no_trace_in_the_features() -> None:
    encoder, rng = Encoder(Blocks()), random.Random(1)
    for choices in some(30):
        other = dict(choices)
        for name in Blocks.genes.keys() - Blocks().active(choices):
            other[name] = rng.choice(Blocks.genes[name])
        a, b = encoder.features(encoder.indices([choices, other]))
        assert np.array_equal(a, b)


def test_features_tell_every_two_candidates_apart() -> None:
    encoder = Encoder(Blocks())
    rows = np.unique(encoder.indices(some(2000)), axis=0)
    assert len(rows) == 3 + 9 + 27  # all there are
    assert len(np.unique(encoder.features(rows), axis=0)) == len(rows)


def test_features_by_hand() -> None:
    encoder = Encoder(Blocks())
    choices = {"depth": 2, "blocks.0.width": 16, "blocks.1.width": 32, "blocks.2.width": 32}
    depth, widths = [0, 1, 0], [0, 1, 0, 0, 0, 1, 0, 0, 0]
    place, pooled = [0.5, 0.5, 1, 0], [2, 1.5, 0.75]
    assert encoder.features(encoder.indices([choices])).tolist() == [[*depth, *widths, *place, *pooled]]
    assert len(encoder.layout.emphasis) == 3 + 9 + 4 + 3


def test_columns_of_alike_genes_are_one_family_and_every_trait_is_one() -> None:
    class Telling(Blocks):
        def traits(self, choices: Choices) -> tuple[float, ...]:
            return float(choices["depth"]), 1.0

    layout = Encoder(Telling()).layout
    depth, widths = layout.families[0], layout.families[3]
    assert layout.families.tolist() == [
        *[depth] * 3, *[widths] * 9, depth, *[widths] * 3, *[widths] * 3, *layout.families[-2:]
    ]  # fmt: skip
    assert sorted(set(layout.families.tolist())) == [0, 1, 2, 3]
    assert layout.traits == 2
    assert layout.emphasis.tolist() == [1.0] * 16 + [10.0] * 5


def test_alike_genes_are_found_without_names_too() -> None:
    class Anonymous:
        genes: ClassVar[dict[str, tuple[Option, ...]]] = {
            f"x{i}": (0, 1, 2) if 1 <= i <= 3 else (0, 1) for i in range(6)
        }

        def active(self, choices: Choices) -> frozenset[str]:
            return frozenset(choices)

    assert Encoder(Anonymous()).groups == [[1, 2, 3], [4, 5]]


def test_the_space_is_asked_once_per_distinct_candidate() -> None:
    space = Blocks()
    encoder = Encoder(space)
    rows = encoder.indices([{name: options[-1] for name, options in Blocks.genes.items()}] * 40)
    for _ in range(3):
        encoder.features(rows)
    assert space.asked == 1


def test_no_candidates_are_no_rows() -> None:
    encoder = Encoder(Blocks())
    assert encoder.indices([]).shape == (0, 4)
    assert encoder.features(encoder.indices([])).shape == (0, len(encoder.layout.emphasis))


def test_a_foreign_option_is_refused() -> None:
    choices = random_choices(Blocks(), random.Random(0)) | {"depth": 4}
    with pytest.raises(NotInSpace, match="depth=4"):
        Encoder(Blocks()).indices([choices])
