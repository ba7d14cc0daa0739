"""Attention to parameters against its formula, number by number, and against the published code; how it grows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.published import TYPES, Published, check, filled
from wb.core.layout import Layout
from wb.core.records.ffns import Pattention
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule

Form = Literal["l2_norm_gelu", "gelu_l2_norm"]
FORMS: tuple[Form, ...] = ("l2_norm_gelu", "gelu_l2_norm")
LAYOUT = Layout((1, 5))


def drawn(record: Pattention, embed: int = 3) -> OperatorModule:
    module = build_operator(record, embed, LAYOUT).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
    return module


def tokens(embed: int = 3) -> Tensor:
    return torch.randn(2, 5, embed, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gelu(z: float) -> float:
    return z * (1 + math.erf(z / math.sqrt(2))) / 2


@pytest.mark.parametrize("length", [None, 1.5])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_formula(form: Form, length: float | None) -> None:
    module, x = drawn(Pattention(mlp=4, form=form, length=length)), tokens()
    keys, values = module.get_parameter("keys").tolist(), module.get_parameter("values").T.tolist()
    expected = []
    for token in x.flatten(0, 1).tolist():
        scores = [sum(a * b for a, b in zip(key, token, strict=True)) for key in keys]
        if form == "gelu_l2_norm":
            scores = [gelu(z) for z in scores]
        norm = math.sqrt(sum(z * z for z in scores))
        weights = [z / norm * (length or 2.0) for z in scores]
        if form == "l2_norm_gelu":
            weights = [gelu(z) for z in weights]
        expected.append([sum(w * value[i] for w, value in zip(weights, values, strict=True)) for i in range(3)])
    torch.testing.assert_close(module(x).flatten(0, 1), torch.tensor(expected, dtype=x.dtype), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_keys_of_zeros_are_exact_where_the_length_stays(form: Form) -> None:
    """And not in the published form, whose length grows with them."""
    for length, exact in ((2.0, True), (None, False)):
        small = drawn(Pattention(mlp=4, form=form, length=length))
        large = drawn(Pattention(mlp=7, form=form, length=length))
        with torch.no_grad():
            large.get_parameter("keys")[:4], large.get_parameter("keys")[4:] = small.get_parameter("keys"), 0
            large.get_parameter("values")[:, :4] = small.get_parameter("values")
        assert torch.allclose(large(tokens()), small(tokens()), rtol=1e-12) == exact


def test_a_token_that_no_key_knows_gives_nothing() -> None:
    module = drawn(Pattention(mlp=4))
    x = torch.zeros_like(tokens(), requires_grad=True)
    assert torch.equal(module(x), x)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.reference
@pytest.mark.parametrize("form", FORMS)
@TYPES
def test_it_is_the_published_one(reference: Path, kind: torch.dtype, tolerance: float, form: Form) -> None:
    data = Published(reference, "tokenformer_pattention", kind)
    found = in_two_widths(data.given("x"), data.weight("key_param_tokens"), data.weight("value_param_tokens"), form)
    check(found, data.expected(form), tolerance)


@pytest.mark.reference
def test_published_growth_by_keys_of_zeros_changes_the_function(reference: Path) -> None:
    data = Published(reference, "tokenformer_pattention", torch.float32)
    values = torch.from_numpy(np.asarray(data.arrays["wg.value_param_tokens"]))
    keys = torch.cat([data.weight("key_param_tokens"), torch.zeros(24, 16)])
    found = in_two_widths(data.given("x"), keys, values, "l2_norm_gelu")
    check(found, data.expected("grown_zero_key"), 2e-5)


def in_two_widths(x: Tensor, keys: Tensor, values: Tensor, form: Form) -> Tensor:
    """The published layer leads from one width to another: of ours, in the larger one, the smaller's other inputs are zero."""
    embed, given = values.shape[1], keys.shape[1]
    record = Pattention(mlp=len(keys), form=form)
    module = filled(
        build_operator(record, embed, Layout((1, x.shape[1]))),
        {"keys": torch.nn.functional.pad(keys, (0, embed - given)), "values": values.T},
    )
    with torch.no_grad():
        found: Tensor = module(torch.nn.functional.pad(x, (0, embed - given)))
    return found
