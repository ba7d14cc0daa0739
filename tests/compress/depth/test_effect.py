"""Distances of maps are those of their tokens."""

from __future__ import annotations

import torch

from wb.compress.depth.effect import cosine, relative, relative_change
from wb.models.layers.planes import as_tokens


def test_maps_are_compared_place_by_place() -> None:
    a, b, c = torch.randn(3, 2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    x, y, z = map(as_tokens, (a, b, c))
    assert torch.equal(relative(a, b), relative(x, y))
    assert torch.equal(cosine(a, b), cosine(x, y))
    assert torch.equal(relative_change(a, b, c), relative_change(x, y, z))
    assert relative(a, b).shape == (2, 12)
