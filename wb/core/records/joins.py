"""What is done to the output of an operator before it is added to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.records.base import Part

INIT = 1e-5  # of the paper for 24 blocks; it has 0.1 up to 18 blocks and 1e-6 beyond 24


class Scale(Part):
    """Every output times a learned factor, which begins at `init`: one per channel, or one for the whole sub-layer."""

    module = "wb.models.joins.scale:Scale"
    example: ClassVar[Mapping[str, Any]] = {"init": 0.1}
    title = "layer scale"
    source = 'Touvron et al., "Going deeper with Image Transformers" (CaiT), 2021'
    kind: Literal["scale"] = "scale"
    per: Literal["channel", "layer"] = "channel"
    init: Annotated[float, Field(ge=0, le=1)] = INIT

    def structure(self) -> Scale:
        """The record with the default `init`, which training changes anyway."""
        return self.model_copy(update={"init": INIT})


Join = Scale
