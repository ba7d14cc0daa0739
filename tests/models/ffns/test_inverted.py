"""The inverted bottleneck with squeeze and excitation, and as published."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.models.published import TYPES, Published, check, filled
from wb.core.layout import Layout
from wb.core.records.ffns import Inverted, Squeeze
from wb.models.block import build_operator
from wb.models.layers.convolution import EPSILON


@pytest.mark.parametrize("gate", ["sigmoid", "hardsigmoid"])
@pytest.mark.parametrize("kernel", [0, 3])
def test_channels_are_gated_by_their_means(gate: Literal["sigmoid", "hardsigmoid"], kernel: Literal[0, 3]) -> None:
    layout = Layout((3, 4), plane="map")
    gated = build_operator(Inverted(mlp=5, kernel=kernel, se=Squeeze(width=2, gate=gate)), 4, layout).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in gated.named_parameters():
            weight.normal_(0, 0.5, generator=generator)
            if name.endswith("variance"):
                weight.abs_().add_(0.1)
    w = dict(gated.eval().named_parameters())
    x = torch.randn(2, 4, 3, 4, dtype=torch.float64, generator=generator)

    def normed(y: Tensor, name: str) -> Tensor:
        mean, variance, gain, shift = (
            w[f"{name}_{part}"][:, None, None] for part in ("mean", "variance", "gain", "shift")
        )
        return (y - mean) / (variance + EPSILON).sqrt() * gain + shift

    y = normed(torch.einsum("bdrc,md->bmrc", x, w["up"]), "up").relu()
    if kernel:
        y = normed(F.conv2d(y, w["mid"], padding=1, groups=5), "mid").relu()
    hidden = (y.mean((2, 3)) @ w["squeeze"].T + w["squeeze_bias"]).relu() @ w["excite"].T + w["excite_bias"]
    gates = 1 / (1 + (-hidden).exp()) if gate == "sigmoid" else ((hidden + 3) / 6).clamp(0, 1)
    expected = normed(torch.einsum("bmrc,dm->bdrc", y * gates[:, :, None, None], w["down"]), "down")
    torch.testing.assert_close(gated(x), expected)


def test_it_has_no_gates_in_the_json_where_it_has_none() -> None:
    """Networks keep the keys they had before there were any."""
    assert "se" not in Inverted(mlp=4).model_dump(mode="json")
    with_gates = Inverted(mlp=4, se=Squeeze(width=2))
    assert Inverted.model_validate_json(with_gates.model_dump_json()) == with_gates


@pytest.mark.reference
@TYPES
def test_a_bottleneck_is_the_published_one(reference: Path, kind: torch.dtype, tolerance: float) -> None:
    """The published norm in front of it, and the bias at its end, are within its norms."""
    data = Published(reference, "astroformer_blocks", kind)
    x, embed, mlp = data.given("x"), 16, 64

    def statistics(name: str) -> dict[str, Tensor]:
        ours = {"gain": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
        return {part: data.weight(f"mb.{name}.{theirs}") for part, theirs in ours.items()}

    before = statistics("pre_norm")
    scale = before["gain"] / (before["variance"] + EPSILON).sqrt()
    up = data.weight("mb.conv1_1x1.weight").flatten(1)
    weights = {"up": up * scale, "mid": data.weight("mb.conv2_kxk.weight")}
    weights |= {
        f"{ours}_{part}": t
        for ours, norm in (("up", "norm1"), ("mid", "norm2"))
        for part, t in statistics(norm).items()
    }
    weights["up_mean"] = weights["up_mean"] - up @ (before["shift"] - before["mean"] * scale)
    for ours, theirs in (("squeeze", "fc1"), ("excite", "fc2")):
        weights[ours] = data.weight(f"mb.se.{theirs}.weight").flatten(1)
        weights[f"{ours}_bias"] = data.weight(f"mb.se.{theirs}.bias")
    ones = torch.ones(embed, dtype=kind)
    weights |= {"down": data.weight("mb.conv3_1x1.weight").flatten(1), "down_shift": data.weight("mb.conv3_1x1.bias")}
    weights |= {"down_gain": ones, "down_mean": ones * 0, "down_variance": ones - EPSILON}
    record = Inverted(mlp=mlp, kernel=3, activation="gelu", se=Squeeze(width=4, gate="sigmoid", activation="silu"))
    built = filled(build_operator(record, embed, Layout((5, 6), plane="map")), weights)
    with torch.no_grad():
        check(x + built(x), data.expected("mbconv"), tolerance)
