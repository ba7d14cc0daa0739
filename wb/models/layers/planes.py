"""The two planes in which a stage stores its tokens: (B, N, D), and maps (B, D, rows, columns) as convolutions want them."""

from __future__ import annotations

from torch import Tensor

from wb.core.layout import Layout


def as_tokens(x: Tensor) -> Tensor:
    """(B, D, rows, columns) -> (B, N, D); tokens stay as they are."""
    return x.flatten(2).transpose(1, 2) if x.dim() == 4 else x


def as_map(x: Tensor, layout: Layout) -> Tensor:
    """(B, N, D) -> (B, D, rows, columns); a map stays as it is."""
    if x.dim() == 4:
        return x
    rows, columns = layout.shape
    return x.transpose(1, 2).reshape(-1, x.shape[2], rows, columns)


def laid(x: Tensor, layout: Layout) -> Tensor:
    """Either, in the plane of `layout`."""
    return as_map(x, layout) if layout.plane == "map" else as_tokens(x)
