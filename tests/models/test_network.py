"""The network against torch's own transformer layers, in both forms, and what its parameters are called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tests.networks import Form, assembled, form
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import ImageInput, LayerNorm, Mlp, PatchStem, Pool, Softmax
from wb.models.counting import count_macs
from wb.models.model import Model, from_network
from wb.models.named import axes_of
from wb.models.network import build, describe, skeleton

FORMS: tuple[Form, ...] = ("pre", "post")
EPS = 1e-3  # large enough to be seen


def test_a_network_beyond_all_bounds_is_refused_before_it_takes_memory(image: ImageInput) -> None:
    wide = Block(mixer=Softmax(heads=65536, qk=65536, v=1))
    huge = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=65536, blocks=(wide,)),), classes=3)
    with pytest.raises(
        Unsupported, match=r"parameters is beyond the 2,147,483,648 that are computed with; choose smaller"
    ):
        build(huge)
    assert sum(p.numel() for p in build(huge, "meta").parameters()) > 10**14


def both(embed: int) -> Block:
    """Attention as torch knows it: the heads' channels add up to the width."""
    return Block(mixer=Softmax(heads=2, qk=embed // 2, v=embed // 2), ffn=Mlp(mlp=9))


def architecture(image: ImageInput, norm: Form, *stages: Stage, pool: str = "mean") -> Architecture:
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, pool=pool, norm=norm, norm_eps=EPS)


def random_model(a: Architecture) -> Model:
    """Random weights everywhere, in float64."""
    network = build(a).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return from_network(a, network)


def layer(weights: dict[str, Tensor], place: str, norm: str) -> nn.TransformerEncoderLayer:
    """torch's layer with the weights of one block of softmax attention and feed-forward."""
    w = {name.removeprefix(place): weight for name, weight in weights.items() if name.startswith(place)}
    embed = len(w["norm1.gain"])
    made = nn.TransformerEncoderLayer(
        embed, 2, len(w["ffn.up"]), 0.0, "gelu", EPS, batch_first=True, norm_first=norm == "pre", dtype=torch.float64
    )
    state = {
        "self_attn.in_proj_weight": torch.cat([w[f"mixer.w{n}"].reshape(-1, embed) for n in "qkv"]),
        "self_attn.in_proj_bias": torch.cat([w[f"mixer.b{n}"].flatten() for n in "qkv"]),
        "self_attn.out_proj.weight": w["mixer.wo"].reshape(embed, -1),
        "self_attn.out_proj.bias": w["mixer.bo"],
        "linear1.weight": w["ffn.up"],
        "linear1.bias": w["ffn.up_bias"],
        "linear2.weight": w["ffn.down"],
        "linear2.bias": w["ffn.down_bias"],
    }
    for i in (1, 2):
        state |= {f"norm{i}.weight": w[f"norm{i}.gain"], f"norm{i}.bias": w[f"norm{i}.shift"]}
    made.load_state_dict(state)
    return made


def by_torch(model: Model, pixel_values: Tensor) -> Tensor:
    """The logits, stage by stage, block by block."""
    a, w = model.architecture, dict(model.weights)
    x = (pixel_values - a.image.mean[0]) / a.image.std[0]
    x = F.conv2d(x, w["stem.patches"], w["stem.patches_bias"], stride=2).flatten(2).transpose(1, 2)  # (B, 16, D)
    if a.prefix:
        x = torch.cat([w["cls"].expand(len(x), 1, -1), x], dim=1)
    x = x + w["position"]
    for i, stage in enumerate(a.stages):
        if i > 0:
            x = x.transpose(1, 2).reshape(len(x), -1, 4, 4)
            x = F.conv2d(x, w["merges.0.merge"], w["merges.0.merge_bias"], stride=2).flatten(2).transpose(1, 2)
        for j in range(len(stage.blocks)):
            x = layer(w, f"stages.{i}.{j}.", form(a))(x)
    if a.last is not None:
        x = F.layer_norm(x, x.shape[-1:], w["norm.gain"], w["norm.shift"], EPS)
    x = x[:, 0] if a.head.pool == "first" else x.mean(dim=1)
    return F.linear(x, w["head"], w["head_bias"])


@pytest.mark.parametrize("norm", FORMS)
@pytest.mark.parametrize(("pool", "widths"), [("mean", [8]), ("cls", [8]), ("mean", [8, 12])])
def test_the_network_is_made_of_torch_s_layers(image: ImageInput, norm: Form, pool: str, widths: list[int]) -> None:
    """Between two stages of a post-norm network the merge reads the stream as the last norm left it."""
    a = architecture(
        image, norm, *(Stage(embed=width, blocks=(both(width), both(width))) for width in widths), pool=pool
    )
    model = random_model(a)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = build(a).double()
    network.load_state_dict(dict(model.weights))
    # The mean and the deviation of the images are buffers in float32.
    torch.testing.assert_close(network(images), by_torch(model, images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("norm", FORMS)
def test_a_missing_sublayer_takes_its_norm_along(image: ImageInput, norm: Form) -> None:
    blocks = (Block(), Block(mixer=Pool()), Block(ffn=Mlp(mlp=5)))
    a = architecture(image, norm, Stage(embed=8, blocks=blocks))
    norms = {name for name in axes_of(build(a, "meta")) if "norm" in name}
    places = ["stages.0.1.norm1", "stages.0.2.norm2"] + (["norm"] if norm == "pre" else [])
    assert norms == {f"{place}.{part}" for place in places for part in ("gain", "shift")}


@pytest.mark.parametrize("norm", FORMS)
@pytest.mark.parametrize("blocks", [(both(8),), (Block(),), ()])
def test_the_norms_are_described_even_where_there_are_none(
    image: ImageInput, norm: Form, blocks: tuple[Block, ...]
) -> None:
    a = architecture(image, norm, Stage(embed=8, blocks=blocks))
    found = describe(build(a, "meta"))
    assert (form(found), found.norm) == (norm, LayerNorm(eps=EPS))
    assert found == a


def test_a_shared_skeleton_is_as_it_was_after_all_uses(image: ImageInput) -> None:
    a = architecture(image, "pre", Stage(embed=8, blocks=(both(8),)))
    network, x = random_model(a).network(), torch.rand(2, 1, 8, 8)
    expected = network(x)
    for _ in range(2):
        assert torch.equal(functional_call(skeleton(a), dict(network.named_parameters()), x), expected)
        assert count_macs(a).value > 0
        assert all(weight.is_meta for weight in skeleton(a).parameters())
    assert describe(skeleton(a)) == a
    assert build(a, "meta") is not skeleton(a)
