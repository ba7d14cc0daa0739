"""The ordinary feed-forward: two linear layers with GELU between them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.operator import Context, OperatorModule, Symmetry


class Mlp(OperatorModule):
    """`down(gelu(up(x)))` with the exact (erf) GELU."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}

    def __init__(
        self, record: records.Mlp, embed: int, layout: Layout, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("up", "up_bias", "mlp")
        self.writes("down", "down_bias", "mlp")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        return F.gelu(F.linear(x, self.kept("up"), self.bias("up")))
