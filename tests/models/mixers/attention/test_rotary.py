"""Rotary attention with grouped queries, against a slow computation token by token."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.attention import Rotary
from wb.models.layers.operator import Context
from wb.models.mixers.attention.rotary import RotaryAttention

WIDTHS = {"heads": 2, "queries": 3, "qk": 4, "v": 6}
D, N = 5, 7


def made(record: Rotary) -> RotaryAttention:
    torch.manual_seed(0)
    module = RotaryAttention(record, D, Layout((N,), causal=True, padded=True, dynamic=True)).double()
    module.reset()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name != "frequencies":
                weight.normal_()
    return module


def turned(y: Tensor, place: int, base: float) -> Tensor:
    """(2, K) as complex numbers, times e^(i place base^(-j/K))."""
    planes = y.shape[1]
    angles = torch.tensor([place * base ** (-j / planes) for j in range(planes)], dtype=torch.float64)
    found = torch.complex(y[0], y[1]) * torch.polar(torch.ones_like(angles), angles)
    return torch.stack([found.real, found.imag]).flatten()


def normed(y: Tensor, gain: Tensor, eps: float) -> Tensor:
    return y / math.sqrt(float((y**2).mean()) + eps) * gain


def slow(m: RotaryAttention, x: Tensor) -> Tensor:
    r = m.record
    out = torch.zeros(N, D, dtype=torch.float64)

    def projected(weight: Tensor, bias: Tensor | None, token: Tensor) -> Tensor:
        return weight @ token + (0 if bias is None else bias)

    def bias(name: str) -> Tensor | None:
        return getattr(m, name) if r.qkv_bias else None

    for h in range(r.heads):
        keys, values = [], []
        for n, token in enumerate(x):
            own = bias("gbk")
            k = projected(m.gk[h], None if own is None else own[h], token)
            keys.append(turned(normed(k, m.k_gain[h], r.eps) if r.rms else k, n, r.base))
            own = bias("gbv")
            values.append(projected(m.gv[h], None if own is None else own[h], token))
        for g in range(r.queries):
            for n, token in enumerate(x):
                own = bias("gbq")
                q = projected(m.gq[h, g], None if own is None else own[h, g], token)
                q = turned(normed(q, m.q_gain[h, g], r.eps) if r.rms else q, n, r.base)
                scores = torch.stack([q @ k for k in keys[: n + 1]]) / math.sqrt(2 * r.qk)
                out[n] += m.go[:, h, g] @ (scores.softmax(0) @ torch.stack(values[: n + 1]))
    return out


@pytest.mark.parametrize("switches", [{}, {"rms": True}, {"qkv_bias": True, "base": 50.0}])
def test_it_is_the_formula(switches: dict[str, object]) -> None:
    module = made(Rotary.model_validate({**WIDTHS, **switches}))
    x = torch.randn(2, N, D, dtype=torch.float64)
    visible = torch.ones(N, N, dtype=torch.bool).tril()[None, None]
    with torch.no_grad():
        y = module(x, Context(visible=visible))
        for row, expected in zip(y, x, strict=True):
            torch.testing.assert_close(row, slow(module, expected), rtol=1e-9, atol=1e-9)
        module.settle()  # turns of a table in single precision
        torch.testing.assert_close(module(x, Context(visible=visible)), y, rtol=1e-5, atol=1e-5)


def test_scores_depend_on_distances_alone() -> None:
    module = made(Rotary.model_validate({**WIDTHS, "rms": True}))
    x = torch.randn(1, N, D, dtype=torch.float64)
    places = torch.arange(N)[None]
    with torch.no_grad():
        near, far = (module(x, Context(places=places + by)) for by in (0, 40))
    torch.testing.assert_close(near, far)
    assert not torch.allclose(near, module(x, Context(places=2 * places)))


def test_heads_may_have_planes_of_their_own_in_a_table_too() -> None:
    module = made(Rotary.model_validate(WIDTHS))
    x = torch.randn(1, N, D, dtype=torch.float64)
    with torch.no_grad():
        module.frequencies.copy_(torch.rand_like(module.frequencies))
        y = module(x)
        places = Context(places=torch.arange(N)[None])
        torch.testing.assert_close(module(x, places), y)
        module.settle()
        assert module.table is not None
        assert module.table.shape == (2, N, 2, 4)
        for context in (Context(), places):
            torch.testing.assert_close(module(x, context), y, rtol=1e-5, atol=1e-5)
