"""Neural memory of a window against its formula, token by token with gradients by hand; chunks, windows, and what is seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records.mixers.memory import Atlas
from wb.models.block import build_operator
from wb.models.counting import operator_macs
from wb.models.layers.operator import Context
from wb.models.mixers.memory.atlas import OmegaMemory, missed, orthogonal, remembered

EMBED, COUNT, C, M = 3, 8, 4, 5
FORMS = pytest.mark.parametrize(
    ("chunk", "window", "polynomial"), [(1, 3, True), (3, 5, True), (3, 3, True), (2, 5, False)]
)
Matrix = list[list[float]]


def drawn(count: int = COUNT, **fields: object) -> OmegaMemory:
    record = Atlas.model_validate({"heads": 2, "channels": C, "hidden": M, "chunk": 3, "window": 5, **fields})
    module = build_operator(record, EMBED, Layout((count,))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.7, generator=generator)
    assert isinstance(module, OmegaMemory)
    return module


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[:, :count]


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def product(a: Matrix, b: Matrix) -> Matrix:
    return [[dot(row, column) for column in zip(*b, strict=True)] for row in a]


def plus(a: Matrix, by: float, b: Matrix, other: float) -> Matrix:
    return [[by * x + other * y for x, y in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def transposed(a: Matrix) -> Matrix:
    return [list(column) for column in zip(*a, strict=True)]


def newton_schulz(s: Matrix) -> Matrix:
    length = math.sqrt(sum(one * one for row in s for one in row)) + 1e-7
    x = [[one / length for one in row] for row in s]
    for _ in range(5):
        square = product(x, transposed(x))
        x = plus(x, 3.4445, product(plus(square, -4.7750, product(square, square), 2.0315), x), 1)
    return x


def unit(k: list[float]) -> list[float]:
    length = math.sqrt(dot(k, k) + 1e-6)
    return [one / length for one in k]


def features(k: list[float], powers: list[float]) -> list[float]:
    found = [powers[0] * one for one in k]
    return found + ([powers[1] * a * b for a in k for b in k] if len(powers) > 1 else [])


def gelu(h: float) -> float:
    return h * (1 + math.erf(h / math.sqrt(2))) / 2


def slope(h: float) -> float:
    return (1 + math.erf(h / math.sqrt(2))) / 2 + h * math.exp(-h * h / 2) / math.sqrt(2 * math.pi)


def recalled(first: Matrix, second: Matrix, powers: list[float], k: list[float]) -> list[float]:
    hidden = product([features(k, powers)], first)[0]
    return [a + b for a, b in zip(k, product([[gelu(h) for h in hidden]], second)[0], strict=True)]


def gradient(
    first: Matrix, second: Matrix, powers: list[float], k: list[float], v: list[float], rate: float
) -> tuple[Matrix, Matrix]:
    """Of `rate` times the squared distance of what is recalled for k to v."""
    seen = features(k, powers)
    hidden = product([seen], first)[0]
    error = [2 * rate * (a - b) for a, b in zip(recalled(first, second, powers, k), v, strict=True)]
    inner = [slope(h) * dot(row, error) for h, row in zip(hidden, second, strict=True)]
    return [[f * i for i in inner] for f in seen], [[gelu(h) * e for e in error] for h in hidden]


def by_hand(module: OmegaMemory, x: Matrix) -> Tensor:
    """What one example's tokens are given, head by head and token by token."""
    w = {name: weight.tolist() for name, weight in module.named_parameters()}
    chunk, window = module.record.chunk, module.record.window
    found = torch.zeros(len(x), EMBED, dtype=torch.float64)
    for head in range(2):

        def mapped(name: str, token: list[float], head: int = head) -> list[float]:
            return [dot(row, token) for row in w[name][head]]

        def number(name: str, token: list[float], head: int = head) -> float:
            return dot(w[name][head], token) + float(w[f"{name}_bias"][head])

        powers = w["powers"][head]
        first = (
            w["first"][head] + [row for rows in w["products"][head] for row in rows]
            if len(powers) > 1
            else w["first"][head]
        )
        second = w["second"][head]
        s_first, s_second = ([[0.0 for _ in row] for row in matrix] for matrix in (first, second))
        memories = [(first, second)]
        for end in range(chunk, len(x) + 1, chunk):
            own = x[end - chunk : end]
            keep, fade, pace = (sigmoid(sum(number(n, t) for t in own) / chunk) for n in ("keep", "fade", "pace"))
            s_first, s_second = plus(s_first, keep, first, 0), plus(s_second, keep, second, 0)
            for token in x[max(0, end - window) : end]:
                k, v = unit(mapped("wk", token)), mapped("wv", token)
                a, b = gradient(first, second, powers, k, v, sigmoid(number("rate", token)))
                s_first, s_second = plus(s_first, 1, a, 1), plus(s_second, 1, b, 1)
            first = plus(first, 1 - fade, newton_schulz(s_first), -pace)
            second = plus(second, 1 - fade, newton_schulz(s_second), -pace)
            memories.append((first, second))
        for t, token in enumerate(x):
            read = recalled(*memories[(t + 1) // chunk], powers, unit(mapped("wq", token)))
            gate = sigmoid(dot(w["gate"][head], token))
            out = torch.tensor([row[head] for row in w["wo"]], dtype=torch.float64)
            found[t] += out @ torch.tensor([gate * one for one in read], dtype=torch.float64)
    return found


@FORMS
def test_it_is_its_formula(chunk: int, window: int, polynomial: bool) -> None:
    module, x = drawn(chunk=chunk, window=window, polynomial=polynomial), tokens()
    expected = torch.stack([by_hand(module, one) for one in x.tolist()])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [3, 4, 6, 7])
@FORMS
def test_a_beginning_gives_what_the_whole_gives_there(count: int, chunk: int, window: int, polynomial: bool) -> None:
    fields = {"chunk": chunk, "window": window, "polynomial": polynomial}
    torch.testing.assert_close(drawn(count, **fields)(tokens(count)), drawn(**fields)(tokens())[:, :count])


def test_tokens_read_what_complete_chunks_have_learned_themselves_among_them() -> None:
    """Of three tokens each; what a query asks for is the token's own."""
    module, x = drawn(), tokens()
    for at, expected in ((0, [0, 2, 3, 4, 5, 6, 7]), (2, [2, 3, 4, 5, 6, 7]), (4, [4, 5, 6, 7]), (7, [7])):
        other = x.clone()
        other[:, at] += 1
        changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-9
        assert changed.nonzero().flatten().tolist() == expected


@FORMS
def test_padding_is_in_no_chunk_wherever_it_stands_also_in_steps(chunk: int, window: int, polynomial: bool) -> None:
    """Texts of seven and of four tokens, which complete their chunks in different steps and look back past these."""
    module, x = drawn(chunk=chunk, window=window, polynomial=polynomial), tokens()
    mask = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1]]).bool()
    given, at = [], 0
    past: Sequence[Tensor] = [x.new_zeros(2, *map(int, shape)) for shape in module.recalls.values()]
    for step in (1, 4, 1, 2):
        here = slice(at, at + step)
        y, past = module.continued(x[:, here], past, Context(mask[:, here]))
        assert [one.shape[1:] for one in past] == [torch.Size(map(int, shape)) for shape in module.recalls.values()]
        given.append(y)
        at += step
    for found in (module(x, Context(mask)), torch.cat(given, dim=1)):
        for b in range(2):
            torch.testing.assert_close(found[b, mask[b]], module(x[b : b + 1, mask[b]])[0])


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_orthogonal_keeps_singular_vectors_and_brings_values_near_one(shape: tuple[int, int]) -> None:
    s = torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    u, values, v = torch.linalg.svd(s, full_matrices=False)
    assert float(values.min() / values.norm(dim=-1).max()) > 0.02, "none so small that five steps do not reach it"
    found = u.mT @ orthogonal(s) @ v.mT
    reached = found.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(found, torch.diag_embed(reached))
    assert float(reached.min()) > 0.65
    assert float(reached.max()) < 1.25
    torch.testing.assert_close(orthogonal(1000 * s), orthogonal(s))  # how long a gradient is does not matter
    assert not orthogonal(torch.zeros(shape)).any()


def test_features_begin_as_an_exponential_function() -> None:
    """A unit whose weights are the features of one key sees another's: e to their product, less one, to second order."""
    module = drawn()
    module.reset()
    powers, (q, k) = module.powers[0].detach(), torch.randn(2, 1, C, dtype=torch.float64) / 10
    seen = torch.tensor([features(k[0].tolist(), powers.tolist())], dtype=torch.float64).T  # (C + C^2, 1)
    memory = (seen[:C], torch.ones(1, C, dtype=torch.float64), seen[C:].reshape(C, C, 1))
    z = q @ k.T
    expected = q + torch.nn.functional.gelu(z.exp() - 1)
    torch.testing.assert_close(remembered(memory, powers, q), expected, rtol=0, atol=float(z.abs()) ** 3)


def test_one_token_without_momentum_and_fading_is_a_step_down_its_own_error() -> None:
    module, x = drawn(1, chunk=1, window=1), tokens(1)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        weights["fade_bias"].fill_(-1e9)
        weights["pace_bias"].fill_(-7)
    q, told = module._projected(x)
    start, nothing = module._begun(2)
    _, (_, after), _ = module.read(q, told, start, nothing)
    for b in range(2):
        for head in range(2):
            key, value, rate = told[b, head, :, :C], told[b, head, :, C : 2 * C], told[b, head, :, 2 * C]
            before, behind = ([one[b, head] for one in memory] for memory in (start, after))
            powers = module.powers[head]
            assert missed(tuple(behind), powers, key, value, rate) < missed(tuple(before), powers, key, value, rate)


def test_gradients_pass_through_what_was_learned() -> None:
    """Those of all weights, against differences; values, rates and paces act by what later tokens read alone."""
    module, x = drawn(), tokens(6)
    weights = dict(module.named_parameters())
    module(x).square().sum().backward()
    for name in ("wv", "rate", "keep_bias", "fade", "pace", "first", "products", "powers", "wq"):
        weight, grad = weights[name], weights[name].grad
        assert grad is not None
        at = tuple(0 for _ in weight.shape)
        with torch.no_grad():
            around = []
            for by in (1e-5, -1e-5):
                weight[at] += by
                around.append(float(module(x).square().sum()))
                weight[at] -= by
        assert float(grad[at]) == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-4, abs=1e-7), name


def test_what_it_costs_is_counted_with_what_makes_steps_orthogonal() -> None:
    """Maps for eight tokens; five products of the size of the first matrix and of the second for each of five tokens, for each of
    two chunks; five steps of Newton and Schulz; two products for each of nine places that read."""
    maps = COUNT * EMBED * 2 * (4 * C + 5)
    rows = C + C * C
    learning = 2 * 5 * (2 * rows * M + 3 * C * M)
    steps = 5 * sum(2 * max(size) * min(size) ** 2 + min(size) ** 3 for size in ((rows, M), (M, C)))
    reading = 9 * (rows * M + M * C)
    found = operator_macs(drawn().record, EMBED, Layout((COUNT,))).value
    assert found == maps + 2 * (learning + 2 * steps + reading)


def test_a_window_has_every_token_of_a_chunk() -> None:
    with pytest.raises(
        ValidationError, match="a window of 2 tokens leaves out some of each chunk of 3; give it at least as many"
    ):
        drawn(window=2)


def test_it_begins_as_published() -> None:
    module = drawn()
    torch.manual_seed(0)
    module.reset()
    torch.testing.assert_close(module.powers.float(), torch.tensor([[1, 0.5**0.5]] * 2))
    for name, size in (("first", C + C * C + M), ("products", C + C * C + M), ("second", C + M)):
        most = float(getattr(module, name).detach().abs().max())
        assert 0.8 * math.sqrt(6 / size) < most <= math.sqrt(6 / size)
