"""MambaMixer's channel mixer: a selective scan over the channels of all tokens.

Source: Behrouz et al., "MambaMixer: Efficient Selective State Space Models with Dual Token and Channel Selection", 2024,
https://arxiv.org/abs/2403.19888: the block of `s6.py` on the transposed stream, so that channels are what follow each other and
tokens are what each has, from the first channel to the last and, with weights of its own, back; both are added.
Differs: written from the formula (no published code). Each sub-layer reads the stream, not a weighted sum of what earlier mixers
gave. A channel knows its place in the scan by a number, so that channels may be permuted and pruned as any.
Limits: weights have a size for every token, so that their number is fixed. Tokens are mixed. In a narrower network of a supernet
the scan passes the channels that are left. As slow in graphs as the scan of tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import ChannelScan as Record
from wb.models.axes import read
from wb.models.layers.operator import NOTHING, Context, Symmetry
from wb.models.mixers.memory.s6 import Scans

FORTH, BACK = "forth_", "back_"


class ChannelScan(Scans):
    """`W_o (S6(SiLU(conv(W_u x^T))) * SiLU(W_z x^T))` for each direction, x^T (D, N). Cost: for each 3*D*N*E, and of the scan."""

    symmetries: Mapping[str, Symmetry] = {"scan_inner": "permutation", "scan_state": "permutation"}
    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = ("embed",)
    order: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.directions = (FORTH, BACK) if record.bidirectional else (FORTH,)
        self.holds("order", "embed", trained=False)
        for name in self.directions:
            self.between(f"{name}wu", "scan_inner", layout.tokens)
            self.between(f"{name}wz", "scan_inner", layout.tokens)
            self.scans(record.rank, record.kernel, name, "scan_inner", "scan_state")
            self.between(f"{name}out", layout.tokens, read("scan_inner"))

    @property
    def silencing(self) -> tuple[str, ...]:
        return tuple(f"{name}out" for name in self.directions)

    def times(self, name: str) -> int:
        """Every map is used for each channel."""
        del name
        return int(self.order.shape[0])

    def reset(self) -> None:
        """Channels are passed in their order."""
        super().reset()
        with torch.no_grad():
            self.order.copy_(torch.arange(len(self.order)))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        places = self.order.detach().argsort()
        channels = x[:, :, places].transpose(1, 2)  # (B, D, N), one after the other
        y = self._passed(channels, FORTH)
        if BACK in self.directions:
            y = y + self._passed(channels.flip(1), BACK).flip(1)
        return y.transpose(1, 2)[:, :, places.argsort()]

    def _passed(self, channels: Tensor, name: str) -> Tensor:
        """What one direction makes of the channels in its order: (B, D, N) -> (B, D, N)."""
        u, z, out = (self.kept(f"{name}{one}") for one in ("wu", "wz", "out"))
        return F.linear(self.scan(F.linear(channels, u), name) * F.silu(F.linear(channels, z)), out)
