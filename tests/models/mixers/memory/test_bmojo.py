"""Window attention with fading memory against its formula, pair by pair, and against what it is in its limits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Operator, Softmax
from wb.core.records.attention import Rotary, Sliding
from wb.core.records.mixers.memory import S6, Bmojo
from wb.models.block import build_operator
from wb.models.layers.operator import Context, OperatorModule
from wb.models.mixers.attention.sliding import SlidingAttention
from wb.models.mixers.memory.bmojo import FadingMemoryAttention
from wb.models.mixers.memory.s6 import SelectiveScan

EMBED, COUNT = 3, 9
RECORD = Bmojo(heads=2, qk=3, v=4, window=2, inner=5, state=3, rank=2)


def filled(record: Operator, *, causal: bool = True) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((COUNT,), causal=causal)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, weight in sorted(module.named_parameters()):
            weight.normal_(0, 0.6, generator=generator)
    return module


def drawn(record: Bmojo = RECORD) -> FadingMemoryAttention:
    module = filled(record)
    assert isinstance(module, FadingMemoryAttention)
    return module


def tokens() -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def memory_of(module: FadingMemoryAttention, x: Tensor) -> Tensor:
    """What Mamba's scan with the same weights gives if its output map changes nothing."""
    scan = build_operator(S6(inner=5, state=3, rank=2), EMBED, Layout((COUNT,))).double()
    assert isinstance(scan, SelectiveScan)
    shared = {name: weight for name, weight in module.named_parameters() if name in dict(scan.named_parameters())}
    scan.load_state_dict({**shared, "out": scan.get_parameter("out")})
    return scan.hidden(x, Context())


def turned(module: FadingMemoryAttention, head: int, y: Tensor, place: int) -> Tensor:
    """Two halves of a head's channels as complex numbers, turned."""
    if not module.record.rotary:
        return y
    angles = place * module.frequencies.detach()[head]
    z = torch.complex(y[0], y[1]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([z.real, z.imag])


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("window", [1, 2, 4])
def test_it_is_its_formula(window: int, scale: float | None, rotary: bool) -> None:
    module, x = drawn(RECORD.model_copy(update={"window": window, "scale": scale, "rotary": rotary})), tokens()
    w, factor = (
        {name: weight.detach() for name, weight in module.named_parameters()},
        scale or (6 if rotary else 3) ** -0.5,
    )
    if rotary:
        same = {"tq": "wq", "tbq": "bq", "tk": "wk", "tbk": "bk", "memory_turned": "memory_key"}
        w |= {name: w[own] for own, name in same.items()}
    memory, expected = memory_of(module, x).detach(), w["bo"].expand_as(x).clone()
    for b in range(2):
        for i in range(COUNT):
            near = [j for j in range(COUNT) if i - window < j <= i]
            far = [j for j in range(COUNT) if i - 2 * window < j <= i - window]
            for h in range(2):
                q = turned(module, h, w["wq"][h] @ x[b, i] + w["bq"][h], i)
                keys = [turned(module, h, w["wk"][h] @ x[b, j] + w["bk"][h], j) for j in near]
                keys += [turned(module, h, w["memory_key"][h] @ memory[b, j], j) for j in far]
                values = [w["wv"][h] @ x[b, j] + w["bv"][h] for j in near]
                values += [w["memory_value"][h] @ memory[b, j] for j in far]
                scores = [factor * float(q @ key) for key in keys]
                shares = [math.exp(score - max(scores)) for score in scores]
                mean = sum((s * v for s, v in zip(shares, values, strict=True)), torch.zeros(4)) / sum(shares)
                expected[b, i] += w["wo"][:, h] @ mean
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("window", [COUNT, 2 * COUNT])
def test_a_window_as_long_as_the_tokens_is_full_attention(window: int) -> None:
    module = drawn(RECORD.model_copy(update={"window": window}))
    full = build_operator(Softmax(heads=2, qk=3, v=4), EMBED, Layout((COUNT,))).double()
    full.load_state_dict({name: module.get_parameter(name) for name, _ in full.named_parameters()})
    visible = torch.ones(COUNT, COUNT).tril().bool()[None, None]
    torch.testing.assert_close(module(tokens()), full(tokens(), Context(visible=visible)))


def test_with_rotary_positions_a_window_as_long_as_the_tokens_is_rotary_attention() -> None:
    module = drawn(RECORD.model_copy(update={"window": COUNT, "rotary": True}))
    module.reset()  # frequencies as they are at first
    full = build_operator(Rotary(heads=2, qk=3, v=4, qkv_bias=True), EMBED, Layout((COUNT,), causal=True)).double()
    full.reset()
    own = {"gq": "tq", "gbq": "tbq", "gk": "tk", "gbk": "tbk", "gv": "wv", "gbv": "bv", "go": "wo"}
    with torch.no_grad():
        for theirs, name in own.items():
            weight = full.get_parameter(theirs)
            weight.copy_(module.get_parameter(name).reshape(weight.shape))
    visible = torch.ones(COUNT, COUNT).tril().bool()[None, None]
    expected = full(tokens(), Context(visible=visible)) + module.get_parameter("bo")
    torch.testing.assert_close(module(tokens()), expected)
    with torch.no_grad():
        module.settle()
    torch.testing.assert_close(module(tokens()), expected, rtol=1e-6, atol=1e-6)


def test_a_memory_that_is_the_tokens_is_a_window_twice_as_long() -> None:
    module, sliding = drawn(), filled(Sliding(heads=2, qk=3, v=4, reach=3))
    q, k, v = (torch.randn(2, 2, COUNT, n, generator=torch.Generator().manual_seed(n)).double() for n in (3, 3, 4))
    assert isinstance(sliding, SlidingAttention)
    torch.testing.assert_close(module.mix(q, k, v, k, v), sliding.mix(q, k, v, Context()))


def test_no_token_sees_what_follows() -> None:
    module, x = drawn(), tokens()
    other = x.clone()
    other[:, 3] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.nonzero().flatten().tolist() == list(range(3, COUNT))
