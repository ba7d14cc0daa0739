"""What tells tokens apart by their place, where no mixer does."""

from __future__ import annotations

from typing import Literal

from wb.core.records.base import Part


class Learned(Part):
    """One vector per token, prefix tokens included, added behind the stem."""

    module = "wb.models.positions.learned:Learned"
    title = "learned positions"
    source = 'Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021'
    kind: Literal["learned"] = "learned"


Position = Learned  # becomes a union like Mixer with the second
