"""The base of join modules, which stand between an operator and the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from wb.core.records import Join
from wb.models.layers.operator import PartModule


class JoinModule(PartModule):
    """Multiplies what an operator gives by `scale`: (..., D) -> (..., D). Final subclasses live in one file each."""

    record: Join
    scale: nn.Parameter
    """(D), or () for one factor per sub-layer; weights that write to the stream can take it over."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        raise NotImplementedError
