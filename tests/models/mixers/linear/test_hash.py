"""Hash attention against the formula written out: distances by broadcasting, all pairs of tokens, token by token."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Hash
from wb.models.block import build_operator
from wb.models.layers.operator import NOTHING
from wb.models.mixers.linear.hash import HashAttention, sign

EMBED = 10
LAYOUT = Layout((3, 4), 1)
FORMS = ("kernel", "official")
Form = Literal["kernel", "official"]


def module(form: Form = "kernel", bits: int = 6, anchors: int = 5, seed: int = 0) -> HashAttention:
    """In float64, as `reset` leaves it but for the biases."""
    built = build_operator(Hash(heads=2, qk=4, v=3, bits=bits, anchors=anchors, form=form), EMBED, LAYOUT)
    assert isinstance(built, HashAttention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built.reset()
        with torch.no_grad():
            for bias in (built.bq, built.bv, built.bo):
                bias.normal_(0, 0.5)
    return built.double()


def tokens(seed: int = 5) -> Tensor:
    return torch.randn(2, LAYOUT.tokens, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def written_out(m: HashAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (B, H, N, P) and what the operator should give (B, N, D), head by head and row by row."""
    w = {name: weight.detach() for name, weight in m.named_parameters()}
    bits, tokens = w["hash"].shape[1], x.shape[1]
    codes = torch.zeros(len(x), 2, tokens, bits, dtype=torch.float64)
    y = torch.zeros_like(x) + w["bo"]
    for b in range(len(x)):
        for h in range(2):
            u = x[b] @ w["wq"][h].T + w["bq"][h]
            u = u / u.norm(dim=1, keepdim=True)
            v = x[b] @ w["wv"][h].T + w["bv"][h]
            distances = (u[:, None, :] - w["anchors"][h][None]).square().sum(dim=2)  # (N, M)
            seen = torch.exp(-distances / (2 * distances.mean())) - w["mean"][h]
            codes[b, h] = (seen @ w["hash"][h].T).sign()
            for i in range(tokens):
                weights = bits + 1 + codes[b, h] @ codes[b, h, i]  # (N,)
                attended = weights @ v
                if m.form == "official":
                    attended = (codes[b, h] @ codes[b, h, i]) @ v + (bits + 1) * v[i]
                y[b, i] += w["wo"][:, h] @ (attended / weights.sum())
    return codes, y


@pytest.mark.parametrize("form", FORMS)
def test_the_linear_form_is_the_quadratic_one(form: Form) -> None:
    m, x = module(form), tokens()
    codes, expected = written_out(m, x)
    assert 0.2 < (codes > 0).double().mean() < 0.8, "the codes say something"
    torch.testing.assert_close(m(x), expected)


@pytest.mark.parametrize("form", FORMS)
def test_the_sign_of_a_bit_does_not_matter(form: Form) -> None:
    m, x = module(form), tokens()
    before = m(x)
    for bit in range(6):
        with torch.no_grad():
            m.hash[:, bit] *= -1
        torch.testing.assert_close(m(x), before)


def rows(form: Form) -> Tensor:
    """What each token takes of each (N, N): values are one channel that says who a token is."""
    m = module(form)
    q = torch.randn(1, 2, LAYOUT.tokens, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v = torch.eye(LAYOUT.tokens, dtype=torch.float64).expand(1, 2, -1, -1)
    return m.mix(q, q, v, NOTHING).detach()[0, 0]


def test_rows_of_the_kernel_form_sum_to_one_and_the_official_ones_differ_on_the_diagonal_as_specified() -> None:
    kernel, official = rows("kernel"), rows("official")
    torch.testing.assert_close(kernel.sum(dim=1), torch.ones(LAYOUT.tokens).double())
    assert (kernel > 0).all()
    norm = 13 / kernel.diagonal()  # a token agrees with itself in all six bits: 6 + 7
    expected = kernel - 7 * (1 - torch.eye(LAYOUT.tokens)) / norm[:, None]
    torch.testing.assert_close(official, expected.double())
    assert (official.sum(dim=1) - 1).abs().min() > 0.1
    assert module("kernel").convex
    assert not module("official").convex


def test_gradients_reach_the_projection_and_not_the_hash_functions() -> None:
    m = module()
    m(tokens()).square().sum().backward()
    found = {name for name, weight in m.named_parameters() if weight.grad is not None}
    assert found == set(m.axes) - set(m.constants)
    assert m.wq.grad is not None
    assert m.wq.grad.abs().max() > 0


def test_the_gradient_of_the_sign_is_clipped() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.3, 1.5], requires_grad=True)
    y = sign(x)
    assert y.tolist() == [-1, -1, -1, 1, 1]
    (y * torch.arange(1.0, 6)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 3, 4, 0]


def test_a_fresh_one_has_anchors_on_the_sphere_and_codes_that_tell_tokens_apart() -> None:
    m = module(bits=16, anchors=25)
    torch.testing.assert_close(m.anchors.norm(dim=-1), torch.ones(2, 25).double(), atol=1e-6, rtol=0)
    q = torch.randn(4, 2, LAYOUT.tokens, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    codes = m.codes(q).transpose(0, 1).flatten(1, 2)  # (H, tokens, P)
    assert len(codes[0].unique(dim=0)) > 10


def test_additions_are_the_products_with_codes() -> None:
    """Each of N tokens and H heads: P x V twice, and P for the norm."""
    assert module().additions == LAYOUT.tokens * 2 * (6 * 3 + 6 * 3 + 6)
