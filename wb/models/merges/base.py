"""The base of merge modules, which lead from the tokens of one stage to those of the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wb.core.layout import Layout
from wb.core.records import Merge
from wb.models.layers.operator import PartModule

PREVIOUS = "previous.embed"  # the residual stream that a merge reads; `embed` is the one that it writes


class MergeModule(PartModule):
    """Tokens or a map -> those of the next stage. Final subclasses live in one file each.

    They are built as `Class(record, embed, layout, next_embed, device)`, where `layout` is that of the stage before.
    """

    fitted: tuple[str, str] | None = None
    """The linear map and its bias, where it has one map only; `inputs` gives what it reads."""
    outputs: Mapping[str, int] = {}
    """Linear maps that are no convolutions -> number of leading dimensions that are their outputs."""
    record: Merge
    layout: Layout

    def __init__(
        self, record: Merge, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({**vars(record), "embed": next_embed, PREVIOUS: embed}, device)
        self.record, self.layout = record, layout

    def describe(self) -> Merge:
        """The record of this module, with widths read off the parameters."""
        fields = type(self.record).model_fields
        return self.record.model_copy(update={name: size for name, size in self.sizes.items() if name in fields})

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs of the `fitted` map: (B, N, D) -> (B, N', features)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> the next stage's, in whichever plane is cheaper."""
        raise NotImplementedError
