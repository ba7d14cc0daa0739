"""Attention through latents against its formula, pair by pair; one group as a Perceiver's block; which groups see which."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import Latents
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule

EMBED, COUNT, M = 5, 6, 2
RECORD = Latents(heads=2, qk=3, v=4, groups=3, latents=M, latent_width=7, latent_mlp=6)


def drawn(record: Latents = RECORD, count: int = COUNT) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((count,))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens(count: int = COUNT) -> Tensor:
    return torch.randn(2, count, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def attended(q: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], factor: float) -> Tensor:
    shares = [math.exp(factor * float(q @ key)) for key in keys]
    return sum((s * v for s, v in zip(shares, values, strict=True)), torch.zeros_like(values[0])) / sum(shares)


def normed(z: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    return (z - z.mean()) / (z.var(correction=0) + 1e-6).sqrt() * gain + shift


def among(w: Mapping[str, Tensor], latents: list[list[Tensor]], *, ordered: bool, factor: float) -> list[list[Tensor]]:
    """The latents of three groups behind attention to each other and their perceptron."""

    def norm(z: Tensor, name: str) -> Tensor:
        return normed(z, w[f"{name}_gain"], w[f"{name}_shift"])

    found: list[list[Tensor]] = []
    before = [[norm(z, "among") for z in own] for own in latents]
    for t in range(3):
        seen = [z for other in range(3) if other <= t or not ordered for z in before[other]]
        found.append([])
        for m in range(M):
            z = latents[t][m] + w["latent_out_bias"]
            for h in range(2):
                q = w["latent_query"][h] @ before[t][m] + w["latent_query_bias"][h]
                keys, values = ([w[f"latent_{name}"][h] @ other for other in seen] for name in ("key", "value"))
                z = z + w["latent_out"][:, h] @ attended(q, keys, values, factor)
            up = F.gelu(w["latent_up"] @ norm(z, "perceptron") + w["latent_up_bias"])
            found[t].append(z + w["latent_down"] @ up + w["latent_down_bias"])
    return found


def by_formula(module: OperatorModule, x: Tensor, *, ordered: bool, factor: float) -> Tensor:
    """Of one example (N, D), in groups of two tokens."""
    w = {name: weight.detach() for name, weight in module.named_parameters()}

    def norm(z: Tensor, name: str) -> Tensor:
        return normed(z, w[f"{name}_gain"], w[f"{name}_shift"])

    groups = [list(x[2 * t : 2 * t + 2]) for t in range(3)]
    latents = [[w["latent"][t, m] for m in range(M)] for t in range(3)]
    for t in range(3):
        for m in range(M):
            given = w["gather_out_bias"].clone()
            for h in range(2):
                q = w["gather_query"][h] @ norm(latents[t][m], "gather") + w["gather_query_bias"][h]
                keys = [w["wk"][h] @ token + w["bk"][h] for token in groups[t]]
                values = [w["wv"][h] @ token + w["bv"][h] for token in groups[t]]
                given += w["gather_out"][:, h] @ attended(q, keys, values, factor)
            latents[t][m] = latents[t][m] + given
    latents = among(w, latents, ordered=ordered, factor=factor)
    outputs = []
    for t in range(3):
        seen = [norm(z, "scatter") for z in latents[t]]
        for token in groups[t]:
            y = w["bo"].clone()
            for h in range(2):
                keys, values = ([w[f"scatter_{name}"][h] @ z for z in seen] for name in ("key", "value"))
                y += w["wo"][:, h] @ attended(w["wq"][h] @ token + w["bq"][h], keys, values, factor)
            outputs.append(y)
    return torch.stack(outputs)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("ordered", [False, True])
def test_it_is_its_formula(ordered: bool, scale: float | None) -> None:
    module, x = drawn(RECORD.model_copy(update={"ordered": ordered, "scale": scale})), tokens()
    expected = torch.stack([by_formula(module, one, ordered=ordered, factor=scale or 3**-0.5) for one in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ordered", [False, True])
def test_in_order_no_group_sees_those_behind_it(ordered: bool) -> None:
    module, x = drawn(RECORD.model_copy(update={"ordered": ordered})), tokens()
    other = x.clone()
    other[:, 3] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.tolist() == [not ordered] * 2 + [True] * 4


def test_one_group_with_silent_latents_is_a_perceiver_block() -> None:
    """Cross-attention of latents to all tokens, and of tokens to latents, by torch's own attention."""
    module, x = drawn(RECORD.model_copy(update={"groups": 1})), tokens()
    with torch.no_grad():
        for name in ("latent_out", "latent_out_bias", "latent_down", "latent_down_bias"):
            module.get_parameter(name).zero_()
    w = {name: weight.detach() for name, weight in module.named_parameters()}
    z = w["latent"].expand(2, -1, -1)

    def norm(name: str) -> Tensor:
        return F.layer_norm(z, (7,), w[f"{name}_gain"], w[f"{name}_shift"], 1e-6)

    def heads(y: Tensor, name: str, bias: str | None = None) -> Tensor:
        return torch.einsum("bnd,hkd->bhnk", y, w[name]) + (0 if bias is None else w[bias][:, None])

    y = F.scaled_dot_product_attention(
        heads(norm("gather"), "gather_query", "gather_query_bias"), heads(x, "wk", "bk"), heads(x, "wv", "bv")
    )
    z = z + torch.einsum("bhnv,chv->bnc", y, w["gather_out"]) + w["gather_out_bias"]
    keys, values = heads(norm("scatter"), "scatter_key"), heads(norm("scatter"), "scatter_value")
    y = F.scaled_dot_product_attention(heads(x, "wq", "bq"), keys, values)
    torch.testing.assert_close(module(x), torch.einsum("bhnv,dhv->bnd", y, w["wo"]) + w["bo"])


@pytest.mark.parametrize(("count", "groups"), [(6, 3), (8, 2), (7, 1)])
def test_there_are_as_many_groups_as_divide_the_tokens(count: int, groups: int) -> None:
    module = drawn(count=count)
    assert module.get_parameter("latent").shape[0] == groups
    assert module(tokens(count)).isfinite().all()
