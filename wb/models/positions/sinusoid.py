"""Sinusoidal positions.

Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.5, https://arxiv.org/abs/1706.03762.
Differs: places are counted row by row from the first token of the stem. Prefix tokens get zeros, as in the code of He et al.,
"Masked Autoencoders Are Scalable Vision Learners", 2022: each has a learned vector of its own. Tokens are not multiplied by
√D before. With an odd D the last cosine is left out.
Limits: the table is a constant with axes, so that it follows a permuted, rotated, pruned or sliced stream. A network whose
stream has been changed keeps those values, which are not the ones that a new network of its width would have.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.ends import PositionModule

LONGEST = 10_000.0  # the wavelengths go from 2π to almost this times 2π


class Sinusoid(PositionModule):
    """A vector per token is added that no gradient changes: `position` (N, D)."""

    def __init__(
        self,
        record: records.Sinusoid,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.prefix, self.dynamic = layout.prefix, layout.dynamic
        self.holds(network, "position", (None, layout.tokens), ("embed", embed), device=device, trained=False)

    def reset(self, network: Any) -> None:
        with torch.no_grad():
            network.position.zero_()
            network.position[self.prefix :] = sinusoids(len(network.position) - self.prefix, network.position.shape[1])

    def placed(self, network: Any, x: Tensor, places: Tensor | None = None) -> Tensor:
        position = network.position.detach()
        if places is not None:
            return x + F.embedding(places, position)
        placed: Tensor = x + (position[: x.shape[1]] if self.dynamic else position)
        return placed


def sinusoids(places: int, channels: int) -> Tensor:
    """(places, channels), float64: sines in even channels, cosines in odd ones, every pair slower than the one before."""
    rates = torch.pow(LONGEST, -torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    angles = torch.arange(places, dtype=torch.float64)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :channels]
