"""ConvNeXt's block against the layers of PyTorch that it is published as."""

from __future__ import annotations

import torch
from torch import nn

from wb.core.layout import Layout
from wb.core.records.ffns import ConvNext
from wb.models.block import build_operator
from wb.models.layers.planes import as_map


def test_it_is_a_convolution_of_each_channel_a_norm_and_a_perceptron() -> None:
    layout = Layout((4, 6))
    block = build_operator(ConvNext(mlp=9, kernel=5, eps=1e-3), 3, layout).double()
    convolution = nn.Conv2d(3, 3, 5, padding=2, groups=3)
    norm, up, down = nn.LayerNorm(3, eps=1e-3), nn.Linear(3, 9), nn.Linear(9, 3)
    generator = torch.Generator().manual_seed(0)
    for name, layer in {"filters": convolution, "gain": norm, "up": up, "down": down}.items():
        own = (name, "shift" if name == "gain" else f"{name}_bias")
        for place, weight in zip(own, layer.double().parameters(), strict=True):
            weight.data.normal_(generator=generator)
            block.get_parameter(place).data.copy_(weight)
    x = torch.randn(2, 24, 3, dtype=torch.float64, generator=generator)
    y = norm(convolution(as_map(x, layout)).permute(0, 2, 3, 1))
    expected = down(nn.functional.gelu(up(y))).flatten(1, 2)
    torch.testing.assert_close(block(x), expected)


def test_it_begins_with_a_norm_that_changes_no_scale() -> None:
    block = build_operator(ConvNext(mlp=9), 3, Layout((4, 6)))
    block.reset()
    entered = block.entering(torch.randn(2, 24, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(entered.var(dim=-1, correction=0), torch.ones(2, 24), rtol=0, atol=1e-2)
