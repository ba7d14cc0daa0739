"""No norm, in front of operators that have norms of their own."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wb.core.records import Unnormed as Record
from wb.models.norms.base import NormModule


class Unnormed(NormModule):
    """The identity; it has no parameters."""

    centred: ClassVar[bool] = False
    foldable: ClassVar[bool] = False

    def __init__(self, record: Record, embed: int, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, device, gain=False, shift=False)

    def forward(self, x: Tensor) -> Tensor:
        return x
