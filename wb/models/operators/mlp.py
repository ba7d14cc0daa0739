"""The ordinary feed-forward: two linear layers with GELU between them."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.axes import Axes, read, write
from wb.models.operators._base import Grid, OperatorModule, Symmetry, parameter, uniform_


class Mlp(OperatorModule):
    """`down(gelu(up(x)))` with the exact (erf) GELU."""

    axes: ClassVar[dict[str, Axes]] = {
        "up": (write("mlp"), read("embed")),
        "up_bias": (write("mlp"),),
        "down": (write("embed"), read("mlp")),
        "down_bias": (write("embed"),),
    }
    symmetries: ClassVar[dict[str, Symmetry]] = {"mlp": "permutation"}
    readers: ClassVar[dict[str, str]] = {"up": "up_bias"}
    writers: ClassVar[dict[str, str]] = {"down": "down_bias"}

    def __init__(self, record: records.Mlp, embed: int, grid: Grid, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.up = parameter(record.mlp, embed, device=device)
        self.up_bias = parameter(record.mlp, device=device)
        self.down = parameter(embed, record.mlp, device=device)
        self.down_bias = parameter(embed, device=device)

    def describe(self) -> records.Mlp:
        return records.Mlp(mlp=self.up.shape[0])

    def reset(self) -> None:
        for weight in (self.up, self.down):
            uniform_(weight, weight.shape[1])
        nn.init.zeros_(self.up_bias)
        nn.init.zeros_(self.down_bias)

    def hidden(self, x: Tensor) -> Tensor:
        return F.gelu(F.linear(x, self.kept("up"), self.up_bias))
