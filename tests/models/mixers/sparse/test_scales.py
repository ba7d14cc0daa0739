"""Scale attention against its formula, pair by pair; with one scale it is mask unit attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Operator
from wb.core.records.attention import MaskUnit
from wb.core.records.mixers.sparse import Scales
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule

EMBED, SHAPE = 5, (4, 8)


def drawn(record: Operator) -> OperatorModule:
    module = build_operator(record, EMBED, Layout(SHAPE)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens() -> Tensor:
    return torch.randn(2, 32, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("scales", "scale"), [(1, None), (2, None), (3, 0.7), (5, None)])
def test_it_is_its_formula(scales: int, scale: float | None) -> None:
    """A token and the means over its region's cells of 2x2 and 4x4, as many scales as there are."""
    module, x = drawn(Scales(heads=2, qk=3, v=4, side=4, scales=scales, scale=scale)), tokens()
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    expected, factor = w["bo"].expand_as(x).clone(), scale or 3**-0.5
    places = [(i, divmod(i, 8)) for i in range(32)]
    for b in range(2):
        for i, (_, column) in places:
            region = [(j, at) for j, at in places if at[1] // 4 == column // 4]
            seen = []
            for cell in [2**n for n in range(min(scales, 3))]:
                of = {(r // cell, c // cell) for _, (r, c) in region}
                members = [[j for j, (r, c) in region if (r // cell, c // cell) == one] for one in sorted(of)]
                seen += [torch.stack([x[b, j] for j in one]).mean(0) for one in members]
            for h in range(2):
                q = w["wq"][h] @ x[b, i] + w["bq"][h]
                shares = [math.exp(factor * float(q @ (w["wk"][h] @ y + w["bk"][h]))) for y in seen]
                values = [w["wv"][h] @ y + w["bv"][h] for y in seen]
                mean = sum((s * y for s, y in zip(shares, values, strict=True)), torch.zeros(4)) / sum(shares)
                expected[b, i] += w["wo"][:, h] @ mean
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def test_one_scale_is_mask_unit_attention() -> None:
    found = drawn(Scales(heads=2, qk=3, v=4, side=4, scales=1))(tokens())
    torch.testing.assert_close(found, drawn(MaskUnit(heads=2, qk=3, v=4, side=4))(tokens()))


def test_regions_of_one_token_pass_their_values() -> None:
    module, x = drawn(Scales(heads=2, qk=3, v=4, side=1)), tokens()
    w = dict(module.named_parameters())
    values = torch.einsum("bnd,hvd->bnhv", x, w["wv"]) + w["bv"]
    torch.testing.assert_close(module(x), torch.einsum("bnhv,dhv->bnd", values, w["wo"]) + w["bo"])


def test_regions_do_not_see_each_other() -> None:
    module, x = drawn(Scales(heads=2, qk=3, v=4, side=4)), tokens()
    other = x.clone()
    other[:, 9] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.nonzero().flatten().tolist() == [i for i in range(32) if i % 8 < 4]
