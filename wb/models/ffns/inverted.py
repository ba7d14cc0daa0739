"""The inverted bottleneck.

Source: Sandler et al., "MobileNetV2", 2018, section 3.3; a batch norm behind every convolution.
Differs: `kernel` 0 leaves the depthwise convolution out, which then is a perceptron for every place (RepViT, ConvNeXt).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.ffns import Inverted as Record
from wb.models.axes import side
from wb.models.convolution import BatchNormed
from wb.models.operator import Context, OperatorModule, Symmetry
from wb.models.tensors import ACTIVATIONS, uniform_


class Inverted(BatchNormed, OperatorModule):
    """`down(activation(mid(activation(up(x)))))` on a map. `up` and `down` are shaped as in the two-layer perceptron."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    up: nn.Parameter
    mid: nn.Parameter
    down: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.kernel = record.kernel
        self.reads("up", None, "mlp")
        self.norms("up", "mlp")
        if self.kernel:
            self.holds("mid", "mlp", 1, side("kernel"), side("kernel"))
            self.norms("mid", "mlp")
        self.writes("down", None, "mlp")
        self.norms("down", "embed")

    def reset(self) -> None:
        super().reset()
        for name in ("up", "mid", "down") if self.kernel else ("up", "down"):
            self.reset_norm(name)
        if self.kernel:
            uniform_(self.mid, self.kernel**2)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, D, rows, columns) -> (B, M, rows, columns)."""
        y: Tensor = self.activation(self.convolved(x, "up"))
        if self.kernel:
            y = self.activation(self.convolved(y, "mid", groups=self.mid.shape[0]))
        return y

    def written(self, hidden: Tensor) -> Tensor:
        return self.convolved(hidden, "down")
