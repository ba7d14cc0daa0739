"""The base of norm modules: a gain, sometimes a shift, and the properties that passes rely on."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.records import Norm
from wb.models.layers.operator import PartModule


class NormModule(PartModule):
    """Normalises the channels of tokens: (..., D) -> (..., D). Final subclasses live in one file each.

    Its parameters are called `gain` and, where it has one, `shift`, both (D). Maps are (B, D, rows, columns).
    """

    centred: ClassVar[bool]
    """Whether it subtracts the mean over the channels, so that adding one number to all channels has no effect."""
    foldable: ClassVar[bool]
    """Whether it ends by multiplying by the gain and adding the shift, so that both can be folded into its readers."""

    local: ClassVar[bool] = True
    """Whether every token is normalised by itself, whatever the others are."""

    gain: nn.Parameter

    def __init__(
        self, record: Norm, embed: int, device: torch.device | str | None = None, *, shift: bool, gain: bool = True
    ) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        if gain:
            self.holds("gain", "embed")
        if shift:
            self.holds("shift", "embed")

    def reset(self) -> None:
        """Gain one, shift zero."""
        if "gain" in self.axes:
            nn.init.ones_(self.gain)
        if "shift" in self.axes:
            nn.init.zeros_(self.get_parameter("shift"))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        raise NotImplementedError
