"""Prototype attention against its formula, token by token; what no query chooses changes nothing."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import Prototypes
from wb.models.block import build_operator
from wb.models.mixers.sparse.prototypes import PrototypeAttention

EMBED, SHAPE = 5, (2, 3)
Form = Literal["channels", "official"]


def drawn(form: Form = "channels", prefix: int = 0, *, front: bool = False) -> PrototypeAttention:
    record = Prototypes(heads=2, prototype=3, form=form, front=front)
    module = build_operator(record, EMBED, Layout(SHAPE, prefix)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    assert isinstance(module, PrototypeAttention)
    return module


def tokens(prefix: int = 0) -> Tensor:
    return torch.randn(2, prefix + 6, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def neighbours(shown: list[Tensor], filters: Tensor, bias: Tensor) -> list[Tensor]:
    """Every place of the picture with those next to it, channel by channel."""
    found = []
    for i in range(6):
        total = bias.clone()
        for j in range(6):
            down, right = j // 3 - i // 3 + 1, j % 3 - i % 3 + 1
            if 0 <= down <= 2 and 0 <= right <= 2:
                total += filters[..., down, right] * shown[j]
        found.append(total)
    return found


def unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt()


@pytest.mark.parametrize("form", ["channels", "official"])
@pytest.mark.parametrize(("prefix", "front"), [(0, False), (2, False), (0, True), (2, True)])
def test_it_is_its_formula(prefix: int, front: bool, form: Form) -> None:
    module, x = drawn(form, prefix, front=front), tokens(prefix)
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    expected = []
    for one in x:
        if front:
            around = neighbours(list(one[prefix:]), w["token_filters"], w["token_filters_bias"])
            keys = [unit(w["show"] @ token + w["show_bias"]) for token in around]
        else:
            shown = [w["show"] @ token + w["show_bias"] for token in one[prefix:]]
            keys = [unit(key) for key in neighbours(shown, w["key_filters"], w["key_filters_bias"])]
        # (H, P), of length one over both
        found, common = [], []
        for token in one:
            q = unit(w["seek"] @ token + w["seek_bias"])
            best = [int(torch.stack([q[h] @ key[h] for key in keys]).argmax()) for h in range(2)]
            found.append(torch.stack([keys[j][h] for h, j in enumerate(best)]))
            common.append((w["blend"] * (found[-1] * q)).sum(dim=(2, 3)) + w["blend_bias"])
        whole = torch.stack(common)
        lengths = whole.square().sum(dim=0 if form == "official" else (1, 2), keepdim=True).sqrt()
        y = w["alpha"] * whole / lengths + torch.stack(found)
        expected.append(torch.einsum("nhp,dhp->nd", y, w["found"]) + w["found_bias"])
    torch.testing.assert_close(module(x), torch.stack(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", ["channels", "official"])
def test_keys_that_no_query_chooses_or_that_are_there_twice_change_nothing(form: Form) -> None:
    """With few queries, as the published decoder has them, and any number of keys."""
    module = drawn(form)
    q, k = (
        F.normalize(torch.randn(2, n, 6, generator=torch.Generator().manual_seed(n)).double(), dim=2) for n in (3, 7)
    )
    expected = module.taken(q, k)
    torch.testing.assert_close(module.taken(q, torch.cat([k, k[:, 2:4]], dim=1)), expected)
    products = (q[:, :, None] * k[:, None]).unflatten(3, (2, 3)).sum(4)  # (B, Q, N, H)
    assert (products.amax(2) > 0).all()  # so that a tenth of any key is chosen by none
    torch.testing.assert_close(module.taken(q, torch.cat([k, 0.1 * k], dim=1)), expected)


@pytest.mark.parametrize("form", ["channels", "official"])
def test_in_the_published_form_queries_are_coupled(form: Form) -> None:
    module = drawn(form)
    q, k = (
        F.normalize(torch.randn(2, n, 6, generator=torch.Generator().manual_seed(n)).double(), dim=2) for n in (3, 7)
    )
    alone = torch.cat([module.taken(q[:, i : i + 1], k) for i in range(3)], dim=1)
    assert torch.allclose(alone, module.taken(q, k)) == (form == "channels")
