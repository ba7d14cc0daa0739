"""Squeeze and excitation: gates of channels.

Source: Hu et al., "Squeeze-and-Excitation Networks", 2018, eq. 2 to 4, https://arxiv.org/abs/1709.01507.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records.ffns import Squeeze
from wb.models.axes import Axis, read, side
from wb.models.layers.operator import PartModule
from wb.models.layers.tensors import ACTIVATIONS, uniform_

GATES: Mapping[str, Callable[[Tensor], Tensor]] = {"hardsigmoid": F.hardsigmoid, "sigmoid": torch.sigmoid}


class Excited(PartModule):
    """A part whose hidden channels may have gates, which are found from the means of all of them."""

    se: Squeeze | None
    squeeze: nn.Parameter
    squeeze_bias: nn.Parameter
    excite: nn.Parameter
    excite_bias: nn.Parameter

    def excites(self, se: Squeeze | None, axis: str) -> None:
        """Declares the gates of the channels on `axis`, if there are any."""
        self.se = se
        if se is not None:
            self.holds("squeeze", se.width, read(axis))
            self.holds("squeeze_bias", se.width)
            self.holds("excite", axis, se.width)
            self.holds("excite_bias", axis)
            for name in ("squeeze", "squeeze_bias", "excite"):  # shared weights hold the hidden units of the widest
                named: tuple[Axis | None, ...] = self.axes[name]
                self.axes[name] = tuple(axis or side("squeezed") for axis in named)

    def reset_gates(self) -> None:
        """Initial values of what the gates are found with; biases are zero."""
        if self.se is not None:
            uniform_(self.squeeze, self.squeeze.shape[1])
            uniform_(self.excite, self.excite.shape[1])
            nn.init.zeros_(self.squeeze_bias)
            nn.init.zeros_(self.excite_bias)

    def gated(self, y: Tensor) -> Tensor:
        """Every channel times its gate: (B, M, rows, columns) -> the same shape."""
        if self.se is None:
            return y
        mean = F.adaptive_avg_pool2d(y, 1)
        squeezed = F.conv2d(mean, self.squeeze[:, :, None, None], self.squeeze_bias)
        active = ACTIVATIONS[self.se.activation](squeezed)
        return y * GATES[self.se.gate](F.conv2d(active, self.excite[:, :, None, None], self.excite_bias))
