"""Each operator against a slow, obvious implementation of its formula, and against the published code's outputs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Cosformer, Lmu, Operator, Pool, Sla, Softmax
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule
from wb.models.mixers.memory.lmu import impulse_response

EMBED = 10


def module(record: Operator, layout: Layout, seed: int = 0) -> OperatorModule:
    """The operator in float64 with random weights."""
    built = build_operator(record, EMBED, layout).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return built


def tokens(layout: Layout) -> Tensor:
    return torch.randn(2, layout.tokens, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def heads(m: OperatorModule, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (B, H, N, channels), head by head."""
    w = dict(m.named_parameters())
    return tuple(  # type: ignore[return-value]
        torch.stack([x @ w[f"w{n}"][h].T + (w[f"b{n}"][h] if f"b{n}" in w else 0) for h in range(len(w["wq"]))], dim=1)
        for n in "qkv"
    )


def output(m: OperatorModule, y: Tensor) -> Tensor:
    """What the heads' results (B, H, N, V) write to the stream."""
    w = dict(m.named_parameters())
    return sum(y[:, h] @ w["wo"][:, h].T for h in range(y.shape[1])) + w.get("bo", torch.zeros(()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("scale", [None, 0.7])
def test_softmax_is_attention_head_by_head(scale: float | None, bias: bool) -> None:
    layout = Layout((2, 3), 1)
    m = module(Softmax(heads=3, qk=4, v=5, scale=scale, bias=bias), layout)
    assert len(list(m.parameters())) == (8 if bias else 4)
    q, k, v = heads(m, tokens(layout))
    scores = torch.einsum("bhik,bhjk->bhij", q, k) * (scale or 4**-0.5)
    expected = torch.einsum("bhij,bhjv->bhiv", scores.exp() / scores.exp().sum(-1, keepdim=True), v)
    torch.testing.assert_close(m(tokens(layout)), output(m, expected))


@pytest.mark.parametrize(("qk", "v"), [(2, 2), (16, 16)])  # one takes the linear form, the other the square one
def test_cosformer_is_the_reweighted_square(qk: int, v: int) -> None:
    layout = Layout((3, 4), 1)
    n = layout.tokens
    m = module(Cosformer(heads=2, qk=qk, v=v), layout)
    q, k, values = heads(m, tokens(layout))
    scores = torch.zeros(2, 2, n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            cosine = math.cos(math.pi / 2 * (i - j) / n)
            scores[:, :, i, j] = (q[:, :, i].relu() * k[:, :, j].relu()).sum(-1) * cosine
    expected = (scores @ values) / scores.sum(-1, keepdim=True).clamp(min=1e-6)
    torch.testing.assert_close(m(tokens(layout)), output(m, expected))


@pytest.mark.parametrize(("qk", "v"), [(2, 3), (16, 16)])  # keys times values first, and queries times keys first
def test_sla_is_the_quadratic_form_with_a_convolution(qk: int, v: int) -> None:
    layout = Layout((3, 4))
    m = module(Sla(heads=2, qk=qk, v=v, kernel=3), layout)
    w = dict(m.named_parameters())
    q, k, values = heads(m, tokens(layout))
    k = (k + w["position"].permute(1, 0, 2)).relu()
    scores = q.relu() @ k.transpose(-1, -2)
    expected = scores @ values / (scores.sum(-1, keepdim=True) + 1e-6)
    padded = torch.zeros(2, 2, 3 + 2, 4 + 2, v, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = values.reshape(2, 2, 3, 4, v)
    for r in range(3):
        for c in range(4):
            window = padded[:, :, r : r + 3, c : c + 3]  # (B, H, 3, 3, V)
            expected[:, :, r * 4 + c] += (
                torch.einsum("bhrcv,vrc->bhv", window, w["depthwise"][:, 0]) + w["depthwise_bias"]
            )
    torch.testing.assert_close(m(tokens(layout)), output(m, expected))


def test_pool_is_the_mean_of_the_neighbours_minus_the_token() -> None:
    layout = Layout((3, 4))
    x = tokens(layout)
    image = x.reshape(2, 3, 4, EMBED)
    expected = torch.empty_like(image)
    for r in range(3):
        for c in range(4):
            window = image[:, max(0, r - 1) : r + 2, max(0, c - 1) : c + 2]
            expected[:, r, c] = window.mean(dim=(1, 2)) - image[:, r, c]
    torch.testing.assert_close(module(Pool(), layout)(x), expected.reshape(2, 12, EMBED))


def test_pool_of_a_constant_image_is_zero() -> None:
    assert module(Pool(kernel=5), Layout((4, 4)))(torch.ones(1, 16, EMBED, dtype=torch.float64)).abs().max() < 1e-12


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lmu_is_the_recurrence(bidirectional: bool) -> None:
    layout = Layout((2, 4), 1)
    m = module(Lmu(memory=3, hidden=5, bidirectional=bidirectional), layout)
    w, x = dict(m.named_parameters()), tokens(layout)
    u = (x @ w["wu"].T + w["bu"]).relu()[..., 0]  # (B, N)
    histories = [recurrence(u)]
    if bidirectional:
        histories.append(recurrence(u.flip(1)).flip(1))
    memory = torch.stack(histories, dim=2)  # (B, N, directions, memory)
    hidden = (torch.einsum("bndm,hdm->bnh", memory, w["wm"]) + x @ w["wx"].T + w["bh"]).relu()
    torch.testing.assert_close(m(x), hidden @ w["out"].T + w["out_bias"], rtol=1e-6, atol=1e-6)


def recurrence(u: Tensor, memory: int = 3) -> Tensor:
    """m_t = A m_{t-1} + B u_t, with A and B by the matrix exponential of the continuous system."""
    n = u.shape[1]
    a = torch.tensor(
        [[(2 * i + 1) / n * (-1.0 if i < j else (-1.0) ** (i - j + 1)) for j in range(memory)] for i in range(memory)]
    )
    b = torch.tensor([[(2 * i + 1) / n * (-1.0) ** i] for i in range(memory)])
    system = torch.zeros(memory + 1, memory + 1, dtype=torch.float64)
    system[:memory, :memory], system[:memory, memory:] = a, b
    discrete = torch.matrix_exp(system)
    state, states = torch.zeros(u.shape[0], memory, dtype=torch.float64), []
    for t in range(n):
        state = state @ discrete[:memory, :memory].T + u[:, t : t + 1] @ discrete[:memory, memory:].T
        states.append(state)
    return torch.stack(states, dim=1)


def test_causal_lmu_does_not_look_ahead() -> None:
    layout = Layout((2, 4))
    m = module(Lmu(memory=3, hidden=5, bidirectional=False), layout)
    x = tokens(layout)
    changed = x.clone()
    changed[:, 5] += 1
    difference = (m(x) - m(changed)).abs().amax(dim=(0, 2))
    assert difference[:5].max() == 0
    assert difference[6:].max() > 0


@pytest.mark.reference
def test_pool_is_the_published_one(reference: Path) -> None:
    data = np.load(reference / "reference/operators/poolformer_block.npz", allow_pickle=False)
    x = torch.from_numpy(data["in.x"]).double()  # (B, D, rows, columns)
    batch, embed, rows, columns = x.shape
    for kernel in (3, 5):
        built = build_operator(Pool(kernel=kernel), embed, Layout((rows, columns)))
        y = built(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(batch, embed, rows, columns)
        np.testing.assert_allclose(y.numpy(), data[f"out64.pool{kernel}"], atol=1e-10)


@pytest.mark.reference
@pytest.mark.parametrize("form", ["linear", "square"])
def test_cosformer_is_the_published_one(reference: Path, form: str) -> None:
    data = np.load(reference / "reference/operators/cosformer_attention.npz", allow_pickle=False)
    x = torch.from_numpy(data["in.query"]).double().transpose(0, 1)  # (B, N, D)
    n, (d, h) = x.shape[1], (32, 4)
    built = build_operator(Cosformer(heads=h, qk=d // h, v=d // h), d, Layout((n, 1))).double()
    w = dict(built.named_parameters())
    with torch.no_grad():
        for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj")):
            w[f"w{ours}"].copy_(torch.from_numpy(data[f"w.{theirs}.weight"]).reshape(h, d // h, d))
            w[f"b{ours}"].copy_(torch.from_numpy(data[f"w.{theirs}.bias"]).reshape(h, d // h))
        w["wo"].copy_(torch.from_numpy(data["w.out_proj.weight"]).reshape(d, h, d // h))
        w["bo"].copy_(torch.from_numpy(data["w.out_proj.bias"]))
        expected = data["out64.self" if form == "linear" else "out64.self_quadratic"]
        # The published index table is in float32.
        np.testing.assert_allclose(built(x).transpose(0, 1).numpy(), expected, atol=1e-6)


@pytest.mark.reference
def test_lmu_is_the_published_cell(reference: Path) -> None:
    data = np.load(reference / "reference/operators/lmu_lmuformer.npz", allow_pickle=False)
    x = torch.from_numpy(data["in.cell_x"]).double()  # (B, N, D)
    n, d = x.shape[1:]
    np.testing.assert_allclose(impulse_response(8, n, float(n)).numpy(), data["w.H"], atol=2e-6)
    built = build_operator(Lmu(memory=8, hidden=d, bidirectional=False), d, Layout((n, 1))).double()
    w = dict(built.named_parameters())
    weight = torch.from_numpy(data["w.W_h.weight"]).double()  # columns [memory | x]
    with torch.no_grad():
        w["wu"].copy_(torch.from_numpy(data["w.W_u.weight"]))
        w["bu"].copy_(torch.from_numpy(data["w.W_u.bias"]))
        w["wm"].copy_(weight[:, None, :8])
        w["wx"].copy_(weight[:, 8:])
        w["bh"].copy_(torch.from_numpy(data["w.W_h.bias"]))
        w["out"].copy_(torch.eye(d))  # the published cell ends at the hidden layer
        w["out_bias"].zero_()
        np.testing.assert_allclose(built(x).numpy(), data["out.cell_h"], atol=2e-5)
