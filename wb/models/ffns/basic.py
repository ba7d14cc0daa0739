"""The block of residual networks: two dense convolutions.

Source: He et al., "Deep Residual Learning for Image Recognition", 2016, section 3.
Differs: no activation behind the sum, so that the residual stream is what the parts add up to, as in every other block.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import Basic as Record
from wb.models.axes import read, side
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Basic(BatchNormed, OperatorModule):
    """`back(activation(front(x)))` on a map. Shares no weights with others."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    front: nn.Parameter
    back: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.convolves("front", "mlp")
        self.norms("front", "mlp")
        self.holds("back", "embed", read("mlp"), side("kernel"), side("kernel"))
        self.writers["back"], self.outputs["back"] = None, 1
        self.norms("back", "embed")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """What `back` sees from each place: (B, D, rows, columns) -> (B, M * kernel^2, rows, columns)."""
        sides = self.back.shape[-1]
        seen = F.unfold(self._inner(x), sides, padding=sides // 2)
        return seen.reshape(*seen.shape[:2], *x.shape[2:])

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        return self.convolved(self._inner(x), "back")

    def written(self, hidden: Tensor) -> Tensor:
        y = F.conv2d(hidden, self.back.flatten(1)[:, :, None, None])
        return y if self.folded else self.normed(y, "back")

    def _inner(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.convolved(x, "front"))
        return y
