"""What answers the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wb.core.records.base import HeadKept, Part

Classes = Annotated[int, Field(ge=2, le=1_000_000)]


class Classify(Part):
    """A linear map from the pooled tokens to one number per class. `labels` are the names of the classes, or none."""

    module = "wb.models.network:Network"
    example: ClassVar[Mapping[str, Any]] = {"classes": 3}
    title = "linear classifier"
    kind: Literal["classify"] = "classify"
    classes: Classes
    labels: tuple[str, ...] = ()
    pool: Literal["mean", "cls"] = "mean"
    precision: HeadKept = "fp32"

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes} classes; give one each, or none")
        return self
