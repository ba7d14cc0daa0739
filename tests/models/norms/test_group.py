"""GroupNorm of one group against PyTorch's, in both planes."""

from __future__ import annotations

import torch
from torch import nn

from wb.core.layout import Layout
from wb.core.records.norms import GroupNorm
from wb.models.block import build_norm
from wb.models.layers.planes import as_map, as_tokens


def test_it_is_the_group_norm_of_pytorch() -> None:
    norm, oracle = build_norm(GroupNorm(eps=0.1), 6), nn.GroupNorm(1, 6, eps=0.1)
    generator = torch.Generator().manual_seed(1)
    for own, weight in (("gain", oracle.weight), ("shift", oracle.bias)):
        weight.data.normal_(generator=generator)
        norm.get_parameter(own).data.copy_(weight)
    x = torch.randn(2, 8, 6, generator=generator) * 3 + torch.randn(2, 8, 1, generator=generator)
    picture = as_map(x, Layout((2, 4)))
    torch.testing.assert_close(norm(picture), oracle(picture))
    torch.testing.assert_close(norm(x), as_tokens(oracle(picture)))
    alone = norm(x[:, 0])  # what is pooled
    torch.testing.assert_close(alone, oracle(x[:, 0]))
