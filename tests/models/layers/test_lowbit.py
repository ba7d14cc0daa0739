"""Binary and ternary weights against the formulas of the papers and against the best there could be."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from wb.models.layers.lowbit import low_bit

LowBit = Literal["w1", "w2"]
LOW: tuple[LowBit, ...] = ("w1", "w2")
numbers = st.one_of(st.just(0.0), st.floats(-2, 2, width=32).filter(lambda x: abs(x) > 1e-6))
matrices = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 8)), elements=numbers)


def random_weight(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def by_hand(row: list[float], precision: LowBit) -> list[float]:
    mean = sum(abs(x) for x in row) / len(row)
    if precision == "w1":
        return [-mean if x < 0 else mean for x in row]
    large = [abs(x) for x in row if abs(x) > 0.7 * mean]
    scale = sum(large) / len(large) if large else 0.0
    return [(abs(x) > 0.7 * mean) * (scale if x > 0 else -scale) for x in row]


@pytest.mark.parametrize("precision", LOW)
def test_rows_are_rounded_as_the_formulas_say(precision: LowBit) -> None:
    weight = random_weight(6, 9)
    expected = torch.tensor([by_hand(row, precision) for row in weight.tolist()])
    torch.testing.assert_close(low_bit(weight, precision, 1), expected)


def test_a_binary_row_is_the_best_one() -> None:
    """XNOR-Net, eq. 6: no signs and no scale are closer."""
    weight = random_weight(4, 6)
    error = (low_bit(weight, "w1", 1) - weight).square().sum(dim=1)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=6)))  # (64, 6)
    scales = weight @ signs.T / 6  # the best for each choice of signs
    best = (weight[:, None] - scales[..., None] * signs).square().sum(dim=2).min(dim=1).values
    torch.testing.assert_close(error, best)


def test_a_ternary_row_is_nearly_the_best_one() -> None:
    """The best keeps the k largest and their mean, for some k; the threshold of the paper is a guess at k."""
    weight = random_weight(200, 16)
    error = (low_bit(weight, "w2", 1) - weight).square().sum(dim=1)
    sizes = weight.abs().sort(dim=1, descending=True).values
    kept = sizes.cumsum(dim=1).square() / torch.arange(1, 17)  # what k of them explain
    best = weight.square().sum(dim=1) - kept.max(dim=1).values
    assert (error >= best - 1e-5).all()
    assert (error / best).median() < 1.05
    assert error.mean() < (low_bit(weight, "w1", 1) - weight).square().sum(dim=1).mean(), "a third value helps"


@given(weight=matrices, precision=st.sampled_from(LOW))
def test_every_row_has_one_size_and_the_signs_of_the_weights(weight: NDArray[np.float32], precision: LowBit) -> None:
    given_ = torch.from_numpy(weight)
    rounded = low_bit(given_, precision, 1)
    assert torch.isfinite(rounded).all()
    assert rounded.dtype == given_.dtype
    for row, original in zip(rounded, given_, strict=True):
        used = row[row != 0]
        assert used.numel() == 0 or torch.equal(used.abs(), used.abs().max().expand_as(used))
        assert (row * original >= 0).all()
        assert bool((row == 0).all()) == bool((original == 0).all())


@given(weight=matrices, precision=st.sampled_from(LOW))
def test_rounding_twice_is_rounding_once(weight: NDArray[np.float32], precision: LowBit) -> None:
    once = low_bit(torch.from_numpy(weight), precision, 1)
    torch.testing.assert_close(low_bit(once, precision, 1), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("precision", LOW)
def test_leading_dimensions_count_rows(precision: LowBit) -> None:
    weight = random_weight(3, 4, 5)
    flat = low_bit(weight.reshape(12, 5), precision, 1)
    assert torch.equal(low_bit(weight, precision, 2), flat.reshape(3, 4, 5))
    wide = low_bit(weight.reshape(3, 20), precision, 1)
    torch.testing.assert_close(low_bit(weight, precision, 1), wide.reshape(3, 4, 5))
    assert not torch.equal(low_bit(weight, precision, 1), low_bit(weight, precision, 2))


@pytest.mark.parametrize("precision", LOW)
def test_gradients_are_those_of_the_rounded_weights(precision: LowBit) -> None:
    weight = random_weight(3, 5).requires_grad_()
    factor = random_weight(5, 3).T
    rounded = low_bit(weight, precision, 1)
    torch.testing.assert_close(rounded.detach(), low_bit(weight.detach(), precision, 1))
    (rounded * factor).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, factor)
    with torch.no_grad():
        assert not low_bit(weight, precision, 1).requires_grad


@pytest.mark.parametrize("precision", LOW)
def test_a_row_of_zeros_stays_one(precision: LowBit) -> None:
    weight = random_weight(3, 5)
    weight[1] = 0
    rounded = low_bit(weight, precision, 1)
    assert (rounded[1] == 0).all()
    assert (rounded[[0, 2]] != 0).any(dim=1).all()


@pytest.mark.parametrize("precision", ["int4", "int8", "fp32"])
def test_what_the_runtime_quantizes_is_left_alone(precision: Literal["int4", "int8", "fp32"]) -> None:
    weight = random_weight(3, 5)
    assert low_bit(weight, precision, 1) is weight
