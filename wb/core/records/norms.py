"""What brings the tokens that an operator reads to one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.records.base import Part

Eps = Annotated[float, Field(gt=0, le=1)]  # added to a variance


class LayerNorm(Part):
    """Mean zero and variance one over the channels of a token, then a gain and a shift per channel."""

    module = "wb.models.norms.layer:LayerNorm"
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-5}
    title = "layer norm"
    source = 'Ba et al., "Layer Normalization", 2016'
    kind: Literal["layer"] = "layer"
    eps: Eps = 1e-6


Norm = LayerNorm  # becomes a union like Mixer with the second norm
