"""The inverted bottleneck.

Source: Sandler et al., "MobileNetV2", 2018, section 3.3; a batch norm behind every convolution. Gates of channels: Hu et al.,
"Squeeze-and-Excitation Networks", 2018, where Howard et al., "Searching for MobileNetV3", 2019, have them.
Differs: `kernel` 0 leaves the depthwise convolution out, which then is a perceptron for every place (RepViT, ConvNeXt).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.ffns import Inverted as Record
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.excitation import Excited
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class Inverted(Excited, BatchNormed, OperatorModule):
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
            self.filters_of("mid", "mlp")
            self.norms("mid", "mlp")
        self.excites(record.se, "mlp")
        self.writes("down", None, "mlp")
        self.norms("down", "embed")

    def reset(self) -> None:
        super().reset()
        self.reset_gates()

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, D, rows, columns) -> (B, M, rows, columns)."""
        y: Tensor = self.activation(self.convolved(x, "up"))
        if self.kernel:
            y = self.activation(self.convolved(y, "mid", groups=self.mid.shape[0]))
        return self.gated(y)

    def written(self, hidden: Tensor) -> Tensor:
        return self.convolved(hidden, "down")
