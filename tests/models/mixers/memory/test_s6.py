"""The selective scan against its recurrence, number by number; streams of tokens; a convolution where nothing is selected."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import S6
from wb.models.block import build_operator
from wb.models.mixers.memory.s6 import SelectiveScan, doubled, scanned

EMBED, COUNT = 3, 6


def drawn(count: int = COUNT) -> SelectiveScan:
    module = build_operator(S6(inner=4, state=3, rank=2, kernel=3), EMBED, Layout((count,))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.7, generator=generator)
    assert isinstance(module, SelectiveScan)
    return module


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def times(rows: Sequence[Sequence[float]], x: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in rows]


def silu(z: float) -> float:
    return z / (1 + math.exp(-z))


def by_recurrence(module: SelectiveScan, x: list[list[float]]) -> list[list[float]]:
    w = {name: weight.tolist() for name, weight in module.named_parameters()}
    before = [times(w["wu"], token) for token in x]
    h, outputs = [[0.0] * 3 for _ in range(4)], []
    for t, token in enumerate(x):
        u = []
        for e in range(4):
            seen = [before[t - 2 + i][e] if t - 2 + i >= 0 else 0.0 for i in range(3)]
            u.append(silu(times(w["filters"][e], seen)[0] + w["filters_bias"][e]))
        b, c, down = (times(w[name], u) for name in ("to_b", "to_c", "step_down"))
        steps = [math.log1p(math.exp(z + s)) for z, s in zip(times(w["step_up"], down), w["step_bias"], strict=True)]
        gates, y = times(w["wz"], token), []
        for e in range(4):
            for s in range(3):
                fade = math.exp(-steps[e] * math.exp(w["a_log"][e][s]))
                h[e][s] = fade * h[e][s] + steps[e] * b[s] * u[e]
            y.append((times([h[e]], c)[0] + w["skip"][e] * u[e]) * silu(gates[e]))
        outputs.append(times(w["out"], y))
    return outputs


def test_it_is_its_recurrence() -> None:
    module, x = drawn(), tokens()
    expected = torch.tensor([by_recurrence(module, tokens) for tokens in x.tolist()], dtype=x.dtype)
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def test_token_by_token_it_is_the_same() -> None:
    module, x = drawn(), tokens()
    state, found = module.start(2), []
    for token in x.unbind(1):
        given, state = module.step(token, state)
        found.append(given)
    torch.testing.assert_close(torch.stack(found, dim=1), module(x))


def test_a_beginning_and_its_state_give_the_rest() -> None:
    """A module for fewer tokens, then the state that it leaves."""
    module, x = drawn(), tokens()
    state = module.start(2)
    for token in x[:, :4].unbind(1):
        _, state = module.step(token, state)
    rest, _ = module.step(x[:, 4], state)
    torch.testing.assert_close(drawn(5)(x[:, :5])[:, 4], rest)


def test_no_token_sees_what_follows() -> None:
    module, x = drawn(), tokens()
    other = x.clone()
    other[:, 3] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [False, False, False, True, True, True]


def test_where_nothing_is_selected_it_is_a_convolution() -> None:
    """With one step, B and C for all tokens, the response to what came t tokens ago is C exp(t step A) step B."""
    step, a = 0.3, -torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    b, c, u = (torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) for n in (3, 3, 9))
    taken, steps = (step * u)[None, :, None].expand(1, 9, 4), torch.full((1, 9, 4), step, dtype=torch.float64)
    found, _ = scanned(steps, taken, b.expand(1, 9, 3), c.expand(1, 9, 3), a)
    response = torch.stack([(c * torch.exp(t * step * a) * step * b).sum(1) for t in range(9)], dim=1)  # (4, 9)
    expected = F.conv1d(F.pad(u[None, None], (8, 0)), response.flip(1)[:, None])
    torch.testing.assert_close(found.transpose(1, 2), expected)


@pytest.mark.parametrize("count", [1, 4, 9])
@pytest.mark.parametrize("from_zero", [True, False])
def test_doubling_is_the_scan(count: int, from_zero: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    steps, taken = (torch.rand(2, count, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    b, c = (torch.randn(2, count, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    a, state = (
        -torch.rand(4, 3, dtype=torch.float64, generator=generator),
        torch.randn(2, 4, 3, generator=generator).double(),
    )
    given = (steps, taken, b, c, a, None if from_zero else state, 9)
    for found, expected in zip(doubled(*given), scanned(*given), strict=True):
        torch.testing.assert_close(found, expected)


def test_it_begins_with_published_steps() -> None:
    module = drawn()
    torch.manual_seed(0)
    module.reset()
    steps = F.softplus(module.step_bias)
    assert float(steps.detach().min()) >= 1e-3 * (1 - 1e-6)
    assert float(steps.detach().max()) <= 0.1 * (1 + 1e-6)
    torch.testing.assert_close(module.a_log.exp(), torch.tensor([1.0, 2.0, 3.0]).double().expand(4, 3))
