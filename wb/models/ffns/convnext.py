"""ConvNeXt's block: a depthwise convolution, a layer norm and a two-layer perceptron.

Source: Liu et al., "A ConvNet for the 2020s", 2022, section 2.6 and figure 4, https://arxiv.org/abs/2201.03545.
Differs: layer scale is the join of the block, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import ConvNext as Record
from wb.models.axes import side
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.planes import as_map, as_tokens
from wb.models.layers.tensors import ACTIVATIONS, uniform_


class ConvNext(OperatorModule):
    """`down(activation(up(LayerNorm(convolution(x)))))`; `up` and `down` are shaped as in the two-layer perceptron."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = ("embed",)
    plain: ClassVar[bool] = False
    record: Record
    filters: nn.Parameter
    filters_bias: nn.Parameter
    gain: nn.Parameter
    shift: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.holds("filters", "embed", 1, side("kernel"), side("kernel"))
        for name in ("filters_bias", "gain", "shift"):
            self.holds(name, "embed")
        self.reads("up", "up_bias", "mlp")
        self.writes("down", "down_bias", "mlp")

    def reset(self) -> None:
        super().reset()
        uniform_(self.filters, self.filters[0].numel())
        nn.init.ones_(self.gain)

    def entering(self, x: Tensor) -> Tensor:
        """What the perceptron sees: (B, N, D) -> (B, N, D)."""
        image, width = as_map(x, self.layout), int(self.gain.shape[0])
        y = F.conv2d(image, self.filters, self.filters_bias, padding=self.filters.shape[-1] // 2, groups=width)
        return F.layer_norm(as_tokens(y), (width,), self.gain, self.shift, self.record.eps)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        return self.activation(F.linear(self.entering(x), self.kept("up"), self.bias("up")))
