"""Token embeddings: a vector for each id.

Source: Bengio et al., "A Neural Probabilistic Language Model", 2003.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.models.stems.base import StemModule

SPREAD = 0.1  # of initial values: smaller ones learn slower, as norms divide by the length of what they are added to


class EmbedStem(StemModule):
    """Looks tokens up in `table` (vocabulary, D)."""

    table: nn.Parameter
    looked_up: ClassVar[tuple[str, ...]] = ("table",)

    def __init__(
        self, record: records.EmbedStem, given: records.TextInput, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        self.holds("table", given.vocabulary, "embed")

    def describe(self) -> records.EmbedStem:
        return self.record

    def reset(self) -> None:
        nn.init.normal_(self.table, std=SPREAD)

    def unpadded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids (B, N) that are negative at padding, as ids of the vocabulary, and which of them count."""
        return x.clamp(min=0), x >= 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, N), ids of the vocabulary -> (B, N, D)."""
        return F.embedding(x, self.table)
