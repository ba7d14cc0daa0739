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
    """Looks tokens up in `table` (vocabulary, D), and adds the first of `types` (types, D) where there are some."""

    table: nn.Parameter
    types: nn.Parameter
    looked_up: ClassVar[tuple[str, ...]] = ("table", "types")

    def __init__(
        self, record: records.EmbedStem, given: records.TextInput, embed: int, device: torch.device | str | None = None
    ) -> None:
        super().__init__({"embed": embed}, device)
        self.record = record
        self.holds("table", given.vocabulary, "embed")
        if record.types:
            self.holds("types", record.types, "embed")

    def describe(self) -> records.EmbedStem:
        return self.record

    def reset(self) -> None:
        nn.init.normal_(self.table, std=SPREAD)
        if self.record.types:
            nn.init.normal_(self.types, std=SPREAD)

    def unpadded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Ids (B, N) that are negative at padding, as ids of the vocabulary, and which of them count."""
        return x.clamp(min=0), x >= 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, N), ids of the vocabulary -> (B, N, D)."""
        found = F.embedding(x, self.table)
        return found + self.types[0] if self.record.types else found
