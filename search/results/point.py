"""One network of a front, as `front.json` has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError, ValidationInfo, field_validator

from wb.core.architecture import Architecture, explain
from wb.core.measures.metrics import ACCURACY
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.statistics.verdict import Remark, loss
from wb.jobs.frame.record import Quality
from wb.search.results.unsure import Unsure

MEASURED = ("latency", "size", "macs", "params")  # readings that every network of a front has, besides its quality


def _is_empty(value: tuple[int, ...]) -> bool:
    """Whether a field is left out of the JSON: networks that stand for themselves only keep the form they had."""
    return not value


class FrontPoint(Frozen):
    """One network of the front, as in `front.json`; paths are relative to the run folder.

    `quality` names the metric that `test` and `searched` are readings of, and among `values` that on the validation split.
    `unsure` names another network of the front that is surely worse in nothing. One that `mirrors` a finalist is that network,
    looking at mirror images too; the graph of one that `lowers` a finalist is that network in 8 bits, with ranges that its
    `model` file, which is in floating point, does not have.
    """

    id: int
    mirrors: Annotated[int | None, Field(exclude_if=is_none)] = None
    lowers: Annotated[int | None, Field(exclude_if=is_none)] = None
    quality: Quality = ACCURACY.name
    values: Mapping[str, Reading]
    test: Reading
    searched: Reading | None = None  # quality before fine-tuning, if any; files of older versions have none
    alike: Annotated[tuple[int, ...], Field(exclude_if=_is_empty)] = ()  # finalists that nothing tells from this one
    unsure: Annotated[Unsure | None, Field(exclude_if=is_none)] = None
    choices: Mapping[str, JsonValue]
    architecture: Mapping[str, JsonValue]
    model: str
    onnx: str

    @property
    def number(self) -> int:
        """The number of the candidate that it is, or is the twin of."""
        return next((number for number in (self.mirrors, self.lowers) if number is not None), self.id)

    @property
    def twin(self) -> str:
        """`37 with mirror images, in 8 bits`; empty for a finalist itself."""
        if self.number == self.id:
            return ""
        how = ["with mirror images"] * (self.mirrors is not None) + ["in 8 bits"] * (self.lowers is not None)
        return f"{self.number} {', '.join(how)}"

    @property
    def title(self) -> str:
        """What people are told that it is: `37`, or `1037 (37 with mirror images)`."""
        return f"{self.id} ({self.twin})" if self.twin else str(self.id)

    @property
    def validation(self) -> Reading:
        """The quality on the validation split."""
        return self.values[self.quality]

    @property
    def worse(self) -> Remark | None:
        """A remark if fine-tuning lowered the quality."""
        return None if self.searched is None else loss("fine-tuning", self.searched, self.validation)

    @field_validator("architecture")
    @classmethod
    def _is_one(cls, value: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        try:
            Architecture.model_validate(value)
        except ValidationError as error:
            raise ValueError(f"no architecture: {explain(error)}") from error
        return value

    @field_validator("values")
    @classmethod
    def _are_all_there(cls, values: Mapping[str, Reading], point: ValidationInfo) -> Mapping[str, Reading]:
        quality = [point.data["quality"]] if "quality" in point.data else []  # else it is wrong itself
        missing = [name for name in (*quality, *MEASURED) if name not in values]
        if missing:
            raise ValueError(f"no reading of {', '.join(missing)}")
        odd = [name for name, reading in values.items() if not math.isfinite(reading.value)]
        if odd or values["latency"].value <= 0:
            raise ValueError(f"no possible reading of {', '.join(odd) or 'latency'}")
        return values
