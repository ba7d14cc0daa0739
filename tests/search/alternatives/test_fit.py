"""The closed form of alternatives, against solving for every subset."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wb.search.alternatives.fit import COMBINED, Writer


def writer_of(
    seed: int, inputs: int, groups: int, *, rows: int = 80, dead: int | None = None, noise: float = 0.0
) -> Writer:
    """One whose targets are what its own weight makes of correlated inputs with means."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator) @ torch.randn(inputs, inputs, generator=generator) + 1
    if dead is not None:
        x[:, dead] = 0.3
    weight, bias = torch.randn(3, inputs, generator=generator), torch.randn(3, generator=generator)
    writer = Writer(weight, bias, groups)
    y = x @ weight.T + bias + noise * torch.randn(rows, 3, generator=generator)
    for part in range(0, rows, 30):
        writer.add(x[part : part + 30], y[part : part + 30])
    return writer


def missed(writer: Writer, kept: tuple[int, ...]) -> float:
    return writer.fitted(writer.columns(kept))[2]


@settings(max_examples=15)
@given(st.integers(0, 99))
def test_all_units_give_the_writer_that_there_was(seed: int) -> None:
    writer = writer_of(seed, 6, 6)
    weight, _, error = writer.fitted(writer.columns(range(6)))
    torch.testing.assert_close(weight, writer.ridge.weight, rtol=1e-4, atol=1e-4)
    assert error < 1e-5


@settings(max_examples=15)
@given(st.integers(0, 99), st.booleans())
def test_fewer_units_miss_more_and_are_nested(seed: int, dead: bool) -> None:
    writer = writer_of(seed, 9, 9, dead=4 if dead else None)
    chosen = [writer.best(count) for count in range(9, 0, -1)]
    errors = [missed(writer, kept) for kept in chosen]
    assert all(set(small) < set(large) for large, small in itertools.pairwise(chosen))
    assert all(a <= b + 1e-4 for a, b in itertools.pairwise(errors))
    if dead:  # what is constant goes first, or what is missed as little, but for the penalty
        without = tuple(unit for unit in range(9) if unit != 4)
        assert missed(writer, chosen[1]) <= missed(writer, without) + 1e-3


@settings(max_examples=15)
@given(st.integers(0, 99))
def test_the_first_unit_to_go_is_the_one_that_is_missed_least(seed: int) -> None:
    writer = writer_of(seed, COMBINED + 1, COMBINED + 1)
    without = [tuple(i for i in range(COMBINED + 1) if i != gone) for gone in range(COMBINED + 1)]
    least = min(missed(writer, kept) for kept in without)
    assert missed(writer, writer.best(COMBINED)) == pytest.approx(least, rel=0.02, abs=1e-3)  # as small as the penalty


@settings(max_examples=10)
@given(st.integers(0, 99))
def test_the_first_head_to_go_is_the_one_that_is_missed_least(seed: int) -> None:
    """Heads go as wholes; of few of them all subsets are tried, so that the two ways can be compared."""
    writer = writer_of(seed, 12, 4)
    best = writer.best(3)
    assert missed(writer, best) == min(missed(writer, kept) for kept in itertools.combinations(range(4), 3))
    greedy = tuple(sorted(writer.order[:3]))
    assert missed(writer, greedy) == pytest.approx(missed(writer, best), rel=0.02, abs=1e-3)


def test_permuted_units_are_the_same_choice() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(90, 7, generator=generator) @ torch.randn(7, 7, generator=generator)
    weight = torch.randn(3, 7, generator=generator)
    order = torch.randperm(7, generator=generator)

    def chosen(x: Tensor, weight: Tensor) -> tuple[set[int], float]:
        writer = Writer(weight, None, 7)
        writer.add(x, x @ weight.T)
        kept = writer.best(4)
        return set(kept), missed(writer, kept)

    first, error = chosen(x, weight)
    second, other = chosen(x[:, order], weight[:, order])
    assert {int(order[i]) for i in second} == first
    assert error == pytest.approx(other, rel=1e-3)


def test_fewer_rows_than_inputs_are_fitted_all_the_same() -> None:
    writer = writer_of(0, 12, 12, rows=5)
    weight, bias, error = writer.fitted(writer.columns(writer.best(4)))
    assert weight.isfinite().all()
    assert bias.isfinite().all()
    assert 0 <= error <= 1


def test_leading_channels_of_heads() -> None:
    writer = writer_of(0, 12, 4)
    assert writer.columns((1, 3), 2).tolist() == [3, 4, 9, 10]
