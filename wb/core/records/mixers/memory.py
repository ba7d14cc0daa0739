"""Mixers that carry a state along the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.records.base import Dim, Preparation, Weighted, Width


class Lmu(Weighted):
    """Legendre memory unit as a convolution: `memory` coefficients of the sequence's history, read by a hidden layer."""

    module = "wb.models.mixers.memory.lmu:LegendreMemory"
    example: ClassVar[Mapping[str, Any]] = {"memory": 5, "hidden": 7}
    title = "Legendre memory unit"
    source = 'Voelker et al., "Legendre Memory Units", 2019'
    kind: Literal["lmu"] = "lmu"
    memory: Annotated[  # papers use 468 at most
        int, Field(ge=1, le=512), Dim("memory", ordered=True, fitted=True, scored=False, aligned=False)
    ]
    hidden: Annotated[Width, Dim("hidden units of the memory")]
    bidirectional: bool = True

    def preparation(self, tokens: int) -> Preparation:
        """The impulse response of the memory: a matrix exponential, and one product with it a token."""
        return Preparation((self.memory, tokens), self.memory**2 * (16 * self.memory + tokens), "memory")
