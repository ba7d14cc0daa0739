"""The inverted bottleneck.

Source: Sandler et al., "MobileNetV2", 2018, section 3.3; a batch norm behind every convolution. Gates of channels: Hu et al.,
"Squeeze-and-Excitation Networks", 2018, where Howard et al., "Searching for MobileNetV3", 2019, have them.
Differs: `kernel` 0 leaves the depthwise convolution out, which then is a perceptron for every place (RepViT, ConvNeXt).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import Inverted as Record
from wb.core.records.ffns import Squeeze
from wb.models.axes import read, side
from wb.models.convolution import BatchNormed
from wb.models.operator import Context, OperatorModule, Symmetry
from wb.models.tensors import ACTIVATIONS, uniform_

GATES: Mapping[str, Callable[[Tensor], Tensor]] = {"hardsigmoid": F.hardsigmoid, "sigmoid": torch.sigmoid}


class Inverted(BatchNormed, OperatorModule):
    """`down(activation(mid(activation(up(x)))))` on a map. `up` and `down` are shaped as in the two-layer perceptron."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    up: nn.Parameter
    mid: nn.Parameter
    down: nn.Parameter
    squeeze: nn.Parameter
    squeeze_bias: nn.Parameter
    excite: nn.Parameter
    excite_bias: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.kernel = record.kernel
        self.reads("up", None, "mlp")
        self.norms("up", "mlp")
        if self.kernel:
            self.filters_of("mid", "mlp")
            self.norms("mid", "mlp")
        self.se = record.se
        if record.se is not None:
            self.holds("squeeze", record.se.width, read("mlp"))
            self.holds("squeeze_bias", record.se.width)
            self.holds("excite", "mlp", record.se.width)
            self.holds("excite_bias", "mlp")
            for name in ("squeeze", "squeeze_bias", "excite"):  # shared weights hold the hidden units of the widest
                self.axes[name] = tuple(axis or side("squeezed") for axis in self.axes[name])
        self.writes("down", None, "mlp")
        self.norms("down", "embed")

    def reset(self) -> None:
        super().reset()
        if self.se is not None:
            uniform_(self.squeeze, self.squeeze.shape[1])
            uniform_(self.excite, self.excite.shape[1])

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, D, rows, columns) -> (B, M, rows, columns)."""
        y: Tensor = self.activation(self.convolved(x, "up"))
        if self.kernel:
            y = self.activation(self.convolved(y, "mid", groups=self.mid.shape[0]))
        return y if self.se is None else y * self._gates(y, self.se)

    def _gates(self, y: Tensor, se: Squeeze) -> Tensor:
        """What each channel is multiplied by: (B, M, rows, columns) -> (B, M, 1, 1)."""
        mean = F.adaptive_avg_pool2d(y, 1)
        squeezed = F.conv2d(mean, self.squeeze[:, :, None, None], self.squeeze_bias)
        active = ACTIVATIONS[se.activation](squeezed)
        return GATES[se.gate](F.conv2d(active, self.excite[:, :, None, None], self.excite_bias))

    def written(self, hidden: Tensor) -> Tensor:
        return self.convolved(hidden, "down")
