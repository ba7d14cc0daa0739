"""Merges that are one convolution with a bias, against the layers of PyTorch that they are published as."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records import Merge
from wb.core.records.merges import NormedConv, Overlapping
from wb.models.block import class_at
from wb.models.layers.planes import as_map, as_tokens
from wb.models.merges.base import MergeModule

LAYOUT = Layout((4, 6))


def norm_of(merge: MergeModule) -> nn.Module:
    norm = nn.LayerNorm(3, eps=1e-3).double()
    norm.weight.data.copy_(merge.get_parameter("gain"))
    norm.bias.data.copy_(merge.get_parameter("shift"))
    return norm


@pytest.mark.parametrize(("record", "sides"), [(NormedConv(eps=1e-3), (2, 2, 0)), (Overlapping(), (3, 2, 1))])
def test_they_are_what_is_published(record: Merge, sides: tuple[int, int, int]) -> None:
    merge: MergeModule = class_at(record.module)(record, 3, LAYOUT, 5).double()
    convolution = nn.Conv2d(3, 5, *sides).double()
    generator = torch.Generator().manual_seed(0)
    for weight in merge.parameters():
        weight.data.normal_(generator=generator)
    convolution.weight.data.copy_(merge.get_parameter("merge"))
    convolution.bias.data.copy_(merge.get_parameter("merge_bias"))  # type: ignore[union-attr]
    x = torch.randn(2, 24, 3, dtype=torch.float64, generator=generator)
    seen: Tensor = norm_of(merge)(x) if "gain" in merge.axes else x
    expected = convolution(as_map(seen, LAYOUT))
    torch.testing.assert_close(merge(x), expected)
    torch.testing.assert_close(merge(as_map(x, LAYOUT)), expected)
    weight, bias = (merge.get_parameter(name) for name in ("merge", "merge_bias"))
    torch.testing.assert_close(nn.functional.linear(merge.inputs(x), weight.flatten(1), bias), as_tokens(expected))
