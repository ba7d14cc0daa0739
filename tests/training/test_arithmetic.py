"""Products by another library: they are the same, and what was set before is set again."""

from __future__ import annotations

import pytest
import torch

from wb.data import Dataset
from wb.training.arithmetic import LEAVE, MATMUL, ROUNDING, _alike, quick_products
from wb.training.fit import Batch, fit
from wb.training.recipes.recipe import Recipe


def test_quick_products_are_those_of_float32() -> None:
    """Of a matrix whose products in bf16 would be a thousand times as far away."""
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(3, 96, 200, generator=generator), torch.randn(64, 200, generator=generator)
    exact = torch.nn.functional.linear(x.double(), weight.double())
    before = MATMUL.fp32_precision
    with quick_products():
        found = torch.nn.functional.linear(x, weight)
    assert MATMUL.fp32_precision == before
    assert (found - exact).abs().max() <= ROUNDING * exact.abs().max()


def test_a_processor_that_would_round_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.training.arithmetic._alike", lambda: False)
    before = MATMUL.fp32_precision
    with quick_products():
        assert MATMUL.fp32_precision == before
    with pytest.raises(ZeroDivisionError), quick_products():
        raise ZeroDivisionError
    assert MATMUL.fp32_precision == before


def test_training_multiplies_so_and_leaves_all_as_it_was(stripes: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.training.arithmetic._alike", lambda: True)
    before, seen = MATMUL.fp32_precision, set()
    weight = torch.nn.Parameter(torch.zeros(2))

    def backward(_: Batch) -> float:
        seen.add(MATMUL.fp32_precision)
        weight.grad = torch.ones(2)
        return 1.0

    fit({"weight": weight}, backward, stripes.train, Recipe(epochs=1), seed=0, decayed=())
    assert seen == {LEAVE}
    assert MATMUL.fp32_precision == before


def test_what_rounds_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the switch makes products as bf16 has them, it is not used."""
    product = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        rounds = MATMUL.fp32_precision == LEAVE
        return product(a.bfloat16(), b.bfloat16()).float() if rounds else product(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not _alike.__wrapped__()
