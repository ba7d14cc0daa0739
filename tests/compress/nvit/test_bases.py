"""Bases of heads: what their moments are afterwards, and that leaving out the last channels loses least."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.networks import assembled, images, random_model
from wb.compress.nvit.bases import key_bases, rebased, value_bases
from wb.core.architecture import Block, Stage
from wb.core.precision import with_precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.models.model import Model

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
A = assembled(
    input=IMAGE,
    stem=PatchStem(patch=2),
    stages=(Stage(embed=8, blocks=(Block(mixer=Softmax(heads=2, qk=5, v=6), ffn=Mlp(mlp=9)),)),),
    classes=3,
)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(seed: int, channels: int) -> Tensor:
    """Of two heads, with directions of very different size."""
    x = (
        normal(seed, 2, 40, channels)
        * torch.logspace(0, -2, channels).double()
        @ normal(seed + 1, 2, channels, channels)
    )
    return x.transpose(1, 2) @ x / 40


def logits(model: Model, x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.network().double()(x.double())
    return found


@settings(max_examples=10, deadline=None)
@given(channels=st.integers(1, 6), seed=st.integers(0, 99))
def test_queries_and_keys_end_with_the_same_moments_in_falling_order(channels: int, seed: int) -> None:
    q, k = moments(seed, channels), moments(seed + 7, channels)
    a, b = key_bases(q, k)
    torch.testing.assert_close(a.transpose(1, 2) @ b, torch.eye(channels).double().expand(2, -1, -1), rtol=0, atol=1e-6)
    after = a @ q @ a.transpose(1, 2)
    torch.testing.assert_close(after, b @ k @ b.transpose(1, 2), rtol=1e-4, atol=1e-4 * float(after.max()))
    sizes = after.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(after, torch.diag_embed(sizes), rtol=0, atol=1e-4 * float(after.max()))
    assert (sizes.diff(dim=1) <= 1e-4 * float(after.max())).all()


@settings(max_examples=10, deadline=None)
@given(channels=st.integers(2, 6), width=st.integers(1, 8), seed=st.integers(0, 99))
def test_the_first_channels_of_values_are_the_best_of_their_number(channels: int, width: int, seed: int) -> None:
    """What the head writes without the last channels is as near as any map of that rank comes (Eckart and Young)."""
    o, writer = moments(seed, channels), normal(seed + 5, 2, width, channels)
    write, read = value_bases(o, writer)
    new_writer = writer @ read.transpose(1, 2)
    torch.testing.assert_close(new_writer @ write, writer, rtol=1e-5, atol=1e-5)
    for left in range(channels):
        error = writer - new_writer[:, :, :left] @ write[:, :left]
        found = (error @ o @ error.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum(1)
        values, vectors = torch.linalg.eigh(o)
        singular = torch.linalg.svdvals(writer @ vectors * values.clamp(min=0).sqrt()[:, None, :])
        best = singular[:, left:].square().sum(1)
        torch.testing.assert_close(found, best, rtol=1e-3, atol=1e-5 * float(singular.square().sum()))


@pytest.mark.parametrize("count", [1, 12])
def test_directions_that_never_occur_change_nothing(count: int) -> None:
    """A dead head, keys of more channels than the stream has, and one image only."""
    model = random_model(A)
    weights = {name: weight.clone() for name, weight in model.weights.items()}
    for name in ("wq", "bq", "wv", "bv"):
        weights[f"stages.0.0.mixer.{name}"][0] = 0
    weights["stages.0.0.mixer.wk"][1, 3:] = 0
    dead, x = Model(A, weights), images(A, 20)
    turned = rebased(dead, [x[:count]])
    assert all(weight.isfinite().all() for weight in turned.weights.values())
    torch.testing.assert_close(logits(turned, x), logits(dead, x), rtol=1e-5, atol=1e-5)


def test_kept_kinds_and_low_bits_stay() -> None:
    model, x = random_model(A), images(A, 6)
    for keep, names in ((("qk",), {"wv", "bv", "wo"}), (("v",), {"wq", "bq", "wk", "bk"}), (("qk", "v"), set())):
        turned = rebased(model, [x], keep)
        changed = [name for name, weight in turned.weights.items() if not torch.equal(weight, model.weights[name])]
        assert {name.rsplit(".", 1)[1] for name in changed} == names
    low = Model(with_precisions(A, {"s0.b0.mixer.in": "w1"}), model.weights)
    assert rebased(low, [x]) is low


@pytest.mark.parametrize("names", [["wk"], ["wk", "bk"], ["wq", "bq"], ["wv"], ["wo"]])
def test_heads_that_always_give_the_same_are_left_in_bounds(names: list[str]) -> None:
    model = random_model(A)
    weights = {
        name: torch.zeros_like(weight) if name.rsplit(".", 1)[-1] in names else weight
        for name, weight in model.weights.items()
    }
    still, x = Model(A, weights), images(A, 8)
    turned = rebased(still, [x])
    torch.testing.assert_close(logits(turned, x), logits(still, x), rtol=0, atol=1e-5)
    assert any(weight.any() for name, weight in turned.weights.items() if name.endswith(".wv")) is ("wv" not in names)
