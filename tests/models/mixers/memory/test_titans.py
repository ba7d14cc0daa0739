"""Neural memory against its formula, token by token with gradients by hand; chunks, and what is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Titans
from wb.models.block import build_operator
from wb.models.counting import operator_macs
from wb.models.layers.operator import Context
from wb.models.mixers.memory.titans import Memory, NeuralMemory, missed

Form = Literal["official", "running"]
FORMS: tuple[Form, ...] = ("official", "running")
EMBED, COUNT = 3, 8
Matrix = list[list[float]]


def drawn(count: int = COUNT, **fields: object) -> NeuralMemory:
    record = Titans.model_validate({"heads": 2, "channels": 4, "hidden": 5, "chunk": 3, **fields})
    module = build_operator(record, EMBED, Layout((count,))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.7, generator=generator)
    assert isinstance(module, NeuralMemory)
    return module


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[:, :count]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def times(rows: Matrix, x: Sequence[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, x, strict=True)) for row in rows]


class ByHand:
    """One memory in lists: weights `first` (C, M), `second` (M, C) and `gain` (C)."""

    def __init__(self, first: Matrix, second: Matrix, gain: list[float]) -> None:
        self.first, self.second, self.gain = first, second, gain

    def _steps(self, x: list[float]) -> tuple[list[float], list[float], list[float], float]:
        hidden = [sum(a * row[m] for a, row in zip(x, self.first, strict=True)) for m in range(len(self.second))]
        active = [h * (1 + math.erf(h / math.sqrt(2))) / 2 for h in hidden]
        y = [sum(a * row[i] for a, row in zip(active, self.second, strict=True)) for i in range(len(x))]
        mean = sum(y) / len(y)
        deviation = math.sqrt(sum((one - mean) ** 2 for one in y) / len(y) + 1e-5)
        return hidden, active, [(one - mean) / deviation for one in y], deviation

    def __call__(self, x: list[float]) -> list[float]:
        _, _, normed, _ = self._steps(x)
        return [a + n * (1 + g) for a, n, g in zip(x, normed, self.gain, strict=True)]

    def gradient(self, k: list[float], v: list[float], rate: float) -> tuple[Matrix, Matrix, list[float]]:
        """Of `rate` times the mean square of what it gives for k, less v: by the chain rule, one factor after the other."""
        hidden, active, normed, deviation = self._steps(k)
        width = len(k)
        error = [2 * rate * (a - b) / width for a, b in zip(self(k), v, strict=True)]
        through = [e * (1 + g) for e, g in zip(error, self.gain, strict=True)]
        mean = sum(through) / width
        along = sum(t * n for t, n in zip(through, normed, strict=True)) / width
        outer = [(t - mean - n * along) / deviation for t, n in zip(through, normed, strict=True)]
        slopes = [
            (1 + math.erf(h / math.sqrt(2))) / 2 + h * math.exp(-h * h / 2) / math.sqrt(2 * math.pi) for h in hidden
        ]
        inner = [s * a for s, a in zip(slopes, times(self.second, outer), strict=True)]
        return (
            [[a * b for b in inner] for a in k],
            [[a * b for b in outer] for a in active],
            [e * n for e, n in zip(error, normed, strict=True)],
        )


def by_hand(module: NeuralMemory, x: Matrix) -> Tensor:
    """What one example's tokens are given, head by head and token by token."""
    w = {name: weight.tolist() for name, weight in module.named_parameters()}
    chunk, found = module.record.chunk, torch.zeros(len(x), EMBED, dtype=torch.float64)
    for head in range(2):
        start = ByHand(w["first"][head], w["second"][head], w["gain"][head])
        flat = torch.cat([module.first[head].flatten(), module.second[head].flatten(), module.gain[head]]).detach()
        memory, momentum = start, torch.zeros_like(flat)
        memories = [start]
        for c in range(len(x) // chunk):
            own = x[c * chunk : (c + 1) * chunk]
            mean = [sum(column) / chunk for column in zip(*own, strict=True)]
            keep, fade = (sigmoid(times([w[n][head]], mean)[0] + w[f"{n}_bias"][head]) for n in ("keep", "fade"))
            surprise = torch.zeros_like(flat)
            for token in own:
                rate = sigmoid(times([w["rate"][head]], token)[0] + w["rate_bias"][head])
                at = start if module.record.form == "official" else memory
                given = at.gradient(times(w["wk"][head], token), times(w["wv"][head], token), rate)
                surprise += torch.cat([torch.tensor(one, dtype=flat.dtype).flatten() for one in given])
            momentum = keep * momentum - surprise
            flat = (1 - fade) * flat + momentum
            parts = [part.tolist() for part in flat.split([20, 20, 4])]
            memory = ByHand(
                [parts[0][i * 5 : i * 5 + 5] for i in range(4)],
                [parts[1][i * 4 : i * 4 + 4] for i in range(5)],
                parts[2],
            )
            memories.append(memory)
        for t, token in enumerate(x):
            read = memories[(t + 1) // chunk](times(w["wq"][head], token))
            gate = sigmoid(times([w["gate"][head]], token)[0])
            out = torch.tensor([row[head] for row in w["wo"]], dtype=flat.dtype)
            found[t] += out @ torch.tensor([gate * one for one in read], dtype=flat.dtype)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_it_is_its_formula(form: Form) -> None:
    module, x = drawn(form=form), tokens()
    expected = torch.stack([by_hand(module, one) for one in x.tolist()])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def test_forms_differ_from_the_second_chunk_on() -> None:
    official, running = (drawn(form=form)(tokens()) for form in FORMS)
    changed = (official - running).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [False] * 5 + [True] * 3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_a_beginning_gives_what_the_whole_gives_there(form: Form, count: int) -> None:
    torch.testing.assert_close(drawn(count, form=form)(tokens(count)), drawn(form=form)(tokens())[:, :count])


def test_tokens_read_what_complete_chunks_have_stored_themselves_among_them() -> None:
    """Of three tokens each; what a query asks for is the token's own."""
    module, x = drawn(), tokens()
    for at, expected in ((0, [0, 2, 3, 4, 5, 6, 7]), (2, [2, 3, 4, 5, 6, 7]), (4, [4, 5, 6, 7]), (7, [7])):
        other = x.clone()
        other[:, at] += 1
        changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-9
        assert changed.nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("form", FORMS)
def test_padding_is_in_no_chunk_wherever_it_stands_also_in_steps(form: Form) -> None:
    """Texts of seven and of four tokens, which complete their chunks in different steps."""
    module, x = drawn(form=form), tokens()
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1]]).bool()
    given, at = [], 0
    past: Sequence[Tensor] = [x.new_zeros(2, *map(int, shape)) for shape in module.recalls.values()]
    for step in (1, 4, 1, 2):
        here = slice(at, at + step)
        y, past = module.continued(x[:, here], past, Context(mask[:, here]))
        given.append(y)
        at += step
    for found in (module(x, Context(mask)), torch.cat(given, dim=1)):
        for b in range(2):
            torch.testing.assert_close(found[b, mask[b]], module(x[b : b + 1, mask[b]])[0])


@pytest.mark.parametrize("form", FORMS)
def test_without_momentum_and_fading_it_is_gradient_descent(form: Form) -> None:
    """Token by token: from where it is, or always with the gradients of where it began."""
    module = drawn(form=form, chunk=1)
    q, k, v = torch.randn(3, 1, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    rates = torch.rand(1, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    never = torch.full_like(rates, -math.inf)
    told = torch.cat([k, v, *(one[..., None] for one in (rates, never, never))], dim=-1)
    start = Memory(*(weight[None] for weight in (module.first, module.second, module.gain)))
    found, *_ = module.read(q, told, start, Memory(*map(torch.zeros_like, start)))
    for head in range(2):
        start = Memory(module.first[head], module.second[head], module.gain[head])
        memory = start
        for t in range(5):
            at = memory if form == "running" else start
            loss = missed(at, k[0, head, t : t + 1], v[0, head, t : t + 1], rates[0, head, t : t + 1])
            steps = torch.autograd.grad(loss, list(at), retain_graph=True)
            memory = Memory(*(weight - step for weight, step in zip(memory, steps, strict=True)))
            torch.testing.assert_close(found[0, head, t], memory(q[0, head, t : t + 1])[0])


def test_gradients_pass_through_what_was_learned() -> None:
    """Those of all weights, against differences; values and rates act by what later tokens read alone."""
    module, x = drawn(), tokens(6)
    weights = dict(module.named_parameters())
    module(x).square().sum().backward()
    for name in ("wv", "rate", "keep_bias", "fade", "first", "gain", "wq"):
        weight, grad = weights[name], weights[name].grad
        assert grad is not None
        at = tuple(0 for _ in weight.shape)
        with torch.no_grad():
            around = []
            for by in (1e-5, -1e-5):
                weight[at] += by
                around.append(float(module(x).square().sum()))
                weight[at] -= by
        assert float(grad[at]) == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-5, abs=1e-8), name


def test_it_costs_a_gradient_for_each_token_that_is_stored() -> None:
    """Maps for eight tokens, five products of the size of a memory for each of six, two for each of nine places that read."""
    maps = COUNT * EMBED * 2 * (4 * 4 + 4)
    memory = 2 * 4 * 5
    found = operator_macs(drawn().record, EMBED, Layout((COUNT,))).value
    assert found == maps + memory * (5 * 6 + 2 * 9)


def test_it_begins_as_published() -> None:
    module = drawn()
    torch.manual_seed(0)
    module.reset()
    assert not module.gain.any()
    most = float(module.first.detach().abs().max())
    assert 0.8 * math.sqrt(6 / 9) < most <= math.sqrt(6 / 9)
