"""Patch merging, token by token."""

from __future__ import annotations

import torch

from wb.core.layout import Layout
from wb.core.records.merges import NormedMerge
from wb.models.layers.planes import as_map
from wb.models.merges.normed import NormedMerge as Module


def test_four_tokens_are_normalised_together() -> None:
    layout = Layout((4, 6))
    merge = Module(NormedMerge(eps=1e-3), 3, layout, 5).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in merge.parameters():
            weight.normal_(0, 0.5, generator=generator)
    w = dict(merge.named_parameters())
    x = torch.randn(2, 24, 3, dtype=torch.float64, generator=generator)
    y = merge(x)
    assert y.shape == (2, 6, 5)
    for place in range(6):
        r, c = divmod(place, 3)
        four = torch.stack([x[:, (2 * r + i) * 6 + 2 * c + j] for i in (0, 1) for j in (0, 1)], dim=-1).unflatten(
            -1, (2, 2)
        )
        mean, variance = four.mean((1, 2, 3), keepdim=True), four.var((1, 2, 3), correction=0, keepdim=True)
        normed = (four - mean) / (variance + 1e-3).sqrt() * w["gain"] + w["shift"]
        torch.testing.assert_close(y[:, place], torch.einsum("bdij,edij->be", normed, w["merge"]))
    torch.testing.assert_close(merge(as_map(x, layout)), y)
