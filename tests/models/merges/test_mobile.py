"""Merges of mobile networks against the same in torch's modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks import of_channels
from wb.core.layout import Layout
from wb.core.records.ffns import Squeeze
from wb.core.records.merges import Bottleneck, Merge, Point, SeparableMerge
from wb.core.records.stems import Separable, SingleStem
from wb.models.block import class_at
from wb.models.layers.operator import PartModule
from wb.models.stems.single import SingleStem as Stem

Weights = dict[str, Tensor]


def drawn(part: PartModule) -> Weights:
    """Random parameters, variances positive."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in part.named_parameters():
            weight.copy_(torch.randn(weight.shape, generator=source) * 0.5)
            if name.endswith("variance"):
                weight.abs_().add_(0.5)
    return dict(part.named_parameters())


def conv(x: Tensor, w: Weights, name: str, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution and its batch norm."""
    weight = w[name]
    norm = nn.BatchNorm2d(len(weight)).eval()
    held = {"weight": "gain", "bias": "shift", "running_mean": "mean", "running_var": "variance"}
    norm.load_state_dict({key: w[f"{name}_{mine}"] for key, mine in held.items()}, strict=False)
    y: Tensor = norm(F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups))
    return y


def gated(x: Tensor, w: Weights) -> Tensor:
    """Squeeze and excitation."""
    mean = x.mean((2, 3))
    squeezed = (mean @ w["squeeze"].T + w["squeeze_bias"]).relu()
    gates = ((squeezed @ w["excite"].T + w["excite_bias"] + 3) / 6).clamp(0, 1)
    return x * gates[:, :, None, None]


def bottleneck(x: Tensor, w: Weights) -> Tensor:
    y = F.hardswish(conv(F.hardswish(conv(x, w, "up")), w, "mid", 1, 9))
    return conv(gated(y, w), w, "down")


def split(x: Tensor, w: Weights) -> Tensor:
    return conv(gated(conv(x, w, "filters", 2, 6).relu(), w), w, "point")


def point(x: Tensor, w: Weights) -> Tensor:
    y = conv(x, w, "point")
    return y * (y + 3).clamp(0, 6) / 6


def pooled(x: Tensor, w: Weights) -> Tensor:
    return (x.mean((2, 3)) @ w["point"][:, :, 0, 0].T + w["point_bias"]).relu()[:, :, None, None]


@pytest.mark.parametrize(
    ("record", "expected", "shape"),
    [
        (Bottleneck(mlp=9, stride=1, kernel=5, activation="hardswish", se=Squeeze(width=4)), bottleneck, (5, 4)),
        (SeparableMerge(se=Squeeze(width=4)), split, (3, 2)),
        (Point(), point, (5, 4)),
        (Point(pooled=True, activation="relu"), pooled, (1, 1)),
    ],
)
@torch.no_grad()
def test_merges_are_the_published_blocks(
    record: Merge, expected: Callable[[Tensor, Weights], Tensor], shape: tuple[int, int]
) -> None:
    layout = Layout((5, 4), plane="map")
    part = class_at(record.module)(record, 6, layout, 7).eval()
    weights = drawn(part)
    x = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1))
    y = part(x)
    torch.testing.assert_close(y, expected(x, weights), atol=1e-5, rtol=1e-4)
    assert record.layout(layout).shape == tuple(y.shape[2:]) == shape


@torch.no_grad()
def test_the_stem_adds_its_separable_convolution() -> None:
    part = Stem(SingleStem(patch=2, separable=Separable(kernel=5)), of_channels(3), 6).eval()
    w, x = drawn(part), torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(1))
    y = F.hardswish(conv(x, w, "conv", 2))
    torch.testing.assert_close(part(x), y + conv(conv(y, w, "filters", 1, 6).relu(), w, "point"), atol=1e-5, rtol=1e-4)
