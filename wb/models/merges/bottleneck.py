"""Merging by an inverted bottleneck, the first block of a stage of mobile networks.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018, section 3.3; with gates, Howard et al.,
"Searching for MobileNetV3", 2019.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.merges import Bottleneck as Record
from wb.models.axes import read, side
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.excitation import Excited
from wb.models.layers.operator import Symmetry
from wb.models.layers.planes import as_map
from wb.models.layers.tensors import ACTIVATIONS
from wb.models.merges.base import PREVIOUS, MergeModule


class Bottleneck(Excited, BatchNormed, MergeModule):
    """`down(activation(mid(activation(up(x)))))`, each with a norm; `mid` has the stride."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    record: Record
    up: nn.Parameter
    mid: nn.Parameter
    down: nn.Parameter

    def __init__(
        self, record: Record, embed: int, layout: Layout, next_embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record, embed, layout, next_embed, device)
        self.between = ACTIVATIONS[record.activation]
        self.holds("up", "mlp", read(PREVIOUS), 1, 1)
        self.norms("up", "mlp")
        self.holds("mid", "mlp", 1, side("kernel"), side("kernel"))
        self.norms("mid", "mlp")
        self.excites(record.se, "mlp")
        self.holds("down", "embed", read("mlp"), 1, 1)
        self.norms("down", "embed")

    def reset(self) -> None:
        self.reset_convolutions()
        self.reset_gates()

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D', its rows, its columns)."""
        y = self.between(self.convolved(as_map(x, self.layout), "up"))
        y = self.between(self.convolved(y, "mid", stride=self.record.stride, groups=self.mid.shape[0]))
        return self.convolved(self.gated(y), "down")
