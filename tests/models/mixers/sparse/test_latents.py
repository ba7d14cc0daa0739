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


def published(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """What a layer "(0)1(0)" of the published network adds to tokens (B, N, D) of three groups, from their parameters.

    Every attention has a norm of what asks and one of what is asked, and biases of all of its four maps.
    """

    def norm(y: Tensor, name: str) -> Tensor:
        return F.layer_norm(y, y.shape[-1:], w[f"{name}.gain"], w[f"{name}.shift"], 1e-6)

    def attention(asking: Tensor, asked: Tensor, name: str) -> Tensor:
        q, k, v = (
            torch.einsum("bnd,dhk->bhnk", y, w[f"{name}.{one}"]) + w[f"{name}.{one}.bias"][:, None]
            for y, one in ((asking, "query"), (asked, "key"), (asked, "value"))
        )
        y = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v
        return torch.einsum("bhnk,hkd->bnd", y, w[f"{name}.out"]) + w[f"{name}.out.bias"]

    tokens, latents = x.reshape(-1, 2, EMBED), w["latents"].repeat(len(x), 1, 1)
    latents = latents + attention(norm(latents, "l2x.cross"), norm(tokens, "l2x.enc"), "l2x")
    latents = latents.reshape(len(x), 3 * M, -1)
    seen = norm(latents, "l.mha")
    latents = latents + attention(seen, seen, "l")
    up = F.gelu(norm(latents, "l.mlp") @ w["l.dense1"] + w["l.dense1.bias"])
    latents = (latents + up @ w["l.dense2"] + w["l.dense2.bias"]).reshape(-1, M, 7)
    return attention(norm(tokens, "x2l.cross"), norm(latents, "x2l.enc"), "x2l").reshape(x.shape)


def drawn_published() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"latents": (3, M, 7)}
    for name, asking, asked in (("l2x", 7, EMBED), ("l", 7, 7), ("x2l", EMBED, 7)):
        shapes |= {f"{name}.query": (asking, 2, 4), f"{name}.key": (asked, 2, 4), f"{name}.value": (asked, 2, 4)}
        shapes |= {f"{name}.{one}.bias": (2, 4) for one in ("query", "key", "value")}
        shapes |= {f"{name}.out": (2, 4, asking), f"{name}.out.bias": (asking,)}
        for norm, width in (("cross", asking), ("enc", asked)):
            shapes |= {f"{name}.{norm}.{what}": (width,) for what in ("gain", "shift")}
    shapes |= {f"l.{norm}.{what}": (7,) for norm in ("mha", "mlp") for what in ("gain", "shift")}
    shapes |= {"l.dense1": (7, 6), "l.dense1.bias": (6,), "l.dense2": (6, 7), "l.dense2.bias": (7,)}
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(shape, dtype=torch.float64, generator=generator) for name, shape in shapes.items()}


def test_it_is_the_published_layer() -> None:
    """Norms of tokens go into the maps behind them, biases of values into those behind the heads."""
    w, x = drawn_published(), tokens()
    own: dict[str, Tensor] = {"latent": w["latents"]}
    for mine, theirs in (("gather", "l2x.cross"), ("among", "l.mha"), ("perceptron", "l.mlp"), ("scatter", "x2l.enc")):
        own |= {f"{mine}_{what}": w[f"{theirs}.{what}"] for what in ("gain", "shift")}
    for mine, theirs in (("wk", "l2x.key"), ("wv", "l2x.value"), ("wq", "x2l.query")):
        norm = "x2l.cross" if mine == "wq" else "l2x.enc"
        own[mine] = (w[theirs] * w[f"{norm}.gain"][:, None, None]).permute(1, 2, 0)
        own["b" + mine[1:]] = w[f"{theirs}.bias"] + torch.einsum("dhk,d->hk", w[theirs], w[f"{norm}.shift"])
    for mine, theirs in (("gather_query", "l2x.query"), ("latent_query", "l.query")):
        own |= {mine: w[theirs].permute(1, 2, 0), f"{mine}_bias": w[f"{theirs}.bias"]}
    for mine, theirs in (
        ("latent_key", "l.key"), ("latent_value", "l.value"), ("scatter_key", "x2l.key"), ("scatter_value", "x2l.value")
    ):  # fmt: skip
        own[mine] = w[theirs].permute(1, 2, 0)
    for mine, bias, theirs in (
        ("gather_out", "gather_out_bias", "l2x"),
        ("latent_out", "latent_out_bias", "l"),
        ("wo", "bo", "x2l"),
    ):
        own[mine] = w[f"{theirs}.out"].permute(2, 0, 1)
        own[bias] = w[f"{theirs}.out.bias"]
        if theirs != "l2x":
            own[bias] = own[bias] + torch.einsum("hkd,hk->d", w[f"{theirs}.out"], w[f"{theirs}.value.bias"])
    for name, dense in (("latent_up", "l.dense1"), ("latent_down", "l.dense2")):
        own |= {name: w[dense].T, f"{name}_bias": w[f"{dense}.bias"]}
    module = drawn(RECORD.model_copy(update={"qk": 4}))
    module.load_state_dict(own)
    normed = F.layer_norm(x, (EMBED,), eps=1e-6)
    torch.testing.assert_close(module(normed), published(w, x), rtol=1e-9, atol=1e-9)
