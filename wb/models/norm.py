"""What every norm module is: a gain, sometimes a shift, and what the rest may know of it."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.records import Norm
from wb.models.operator import PartModule


class NormModule(PartModule):
    """Normalises the channels of tokens: (..., D) -> (..., D). Final subclasses live in one file each.

    Its parameters are called `gain` and, where it has one, `shift`, both (D).
    """

    centred: ClassVar[bool]
    """Whether it takes the mean over the channels away, so that what is added to all of them does nothing."""
    foldable: ClassVar[bool]
    """Whether gain and shift are the last thing that it does, channel by channel: they may go into what reads it."""

    gain: nn.Parameter

    def __init__(self, record: Norm, embed: int, device: torch.device | str | None = None, *, shift: bool) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        self.holds("gain", "embed")
        if shift:
            self.holds("shift", "embed")

    def reset(self) -> None:
        """One and zero."""
        nn.init.ones_(self.gain)
        if "shift" in self.axes:
            nn.init.zeros_(self.get_parameter("shift"))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        raise NotImplementedError
