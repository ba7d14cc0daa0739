"""The base of join modules, which stand between an operator and the residual stream."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from wb.core.records import Join
from wb.models.layers.operator import PartModule


class JoinModule(PartModule):
    """What an operator's output contributes to the stream: twice (..., D) -> (..., D). Final subclasses live in one file each.

    The contribution is what is added, so that a join which replaces the stream gives the difference. Where it is zero the
    stream is left as it is: wirings, gates and depth need not know of joins.
    """

    record: Join
    scales: ClassVar[bool] = False
    """Whether it only multiplies the output by its `scale`, which weights that write to the stream can take over."""
    scale: nn.Parameter
    """(D), or () for one factor per sub-layer; of those that scale."""

    def forward(self, given: Tensor, stream: Tensor) -> Tensor:
        """The contribution of an operator that gives `given` where the stream is `stream`, both (..., D), or both maps."""
        raise NotImplementedError
