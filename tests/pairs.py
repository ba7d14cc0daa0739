"""Parametrization by pairs: of all combinations as few as have every two values together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Any

import pytest


def pairwise(**choices: Sequence[Any]) -> pytest.MarkDecorator:
    """As `parametrize` over all combinations, with those only that have two values together which none before them had."""
    rows = list(product(*(range(len(values)) for values in choices.values())))
    met = {row: set(combinations(enumerate(row), 2)) for row in rows}
    left, chosen = set().union(*met.values()), []
    while left:
        chosen.append(max(rows, key=lambda row: len(met[row] & left)))
        left -= met[chosen[-1]]
    values = [tuple(options[at] for options, at in zip(choices.values(), row, strict=True)) for row in sorted(chosen)]
    return pytest.mark.parametrize(tuple(choices), values)
