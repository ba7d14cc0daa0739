"""LMUFormer's feed-forward: two 1x1 convolutions along the tokens, with a batch norm and an activation behind each.

Source: Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", 2024,
https://arxiv.org/abs/2402.04882, and the published code (`ConvFFN`): ReLU(BN(W2 GELU(BN(W1 x)))).
Differs: no biases, which the norms behind make idle.
Limits: what stands behind the last norm keeps it from being a linear map that writes to the stream: it cannot take over a layer
scale, and is corrected (fusion, pruning) towards what parents have behind it, not towards the stream.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records.ffns import ConvFfn as Record
from wb.models.axes import read
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS


class ConvFfn(BatchNormed, OperatorModule):
    """`relu(norm(down(activation(norm(up(x))))))`. `up` and `down` are shaped as in the two-layer perceptron."""

    symmetries: Mapping[str, Symmetry] = {"mlp": "permutation"}
    up: nn.Parameter
    down: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.reads("up", None, "mlp")
        self.norms("up", "mlp")
        self.between("down", "embed", read("mlp"))
        self.norms("down", "embed")

    @property
    def scaling(self) -> tuple[str, ...]:
        """None: behind the last activation what it gives is not proportional to anything of either sign."""
        return ()

    def reader_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """(B, N, D) -> (B, M, N, 1)."""
        return super().reader_outputs(_columns(x))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        y = self.activation(self.convolved(_columns(x), "up"))
        return self.convolved(y, "down").relu().flatten(2).transpose(1, 2)


def _columns(x: Tensor) -> Tensor:
    """Tokens as a map of one column, as convolutions have it: (B, N, D) -> (B, D, N, 1)."""
    return x.transpose(1, 2).unsqueeze(3)
