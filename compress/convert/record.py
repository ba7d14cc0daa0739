"""The record of a conversion, a JSON file beside its model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from wb.compress.convert.config import ConvertConfig
from wb.compress.staged.record import StagedRecord
from wb.core.records import Frozen

Error = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Layer(Frozen):
    """A mixer that was replaced: by what, and the share of the variance that the new one missed, at first and when taught."""

    slot: str
    before: str
    after: str
    begun: Error
    missed: Error


class Conversion(StagedRecord[ConvertConfig]):
    """The record of a whole conversion."""

    verb = "convert"
    titles: ClassVar[Mapping[str, str]] = {
        "mixers": "other mixers",
        "paths": "path ensembles",
        "norms": "re-parameterized batch norms",
    }
    tuning = (
        "; with other norms, layer norms give way to them meanwhile; in path ensembles the first paths learn from all"
    )

    kind: Literal["conversion"] = "conversion"
    layers: tuple[Layer, ...] = ()
