"""What `wb binarize` leaves beside its model, as JSON: how it went, and everything that its report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from wb.compress.binarize.config import BinarizeConfig
from wb.core.architecture import Architecture
from wb.core.metrics import COSTS
from wb.core.readings import Reading
from wb.core.records import Frozen
from wb.jobs.record import JobRecord

Picojoules = Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]  # by part
Name = Literal["hash", "w1", "w2"]  # what a stage brings


class Epoch(Frozen):
    """The mean loss of one epoch of fine-tuning, from 1."""

    number: Annotated[int, Field(ge=1)]
    loss: Annotated[float, Field(allow_inf_nan=False)]


class Stage(Frozen):
    """One step: the network, its modelled energy by part, and what was read before and after fine-tuning.

    `after` is of all models together, at the end.
    """

    name: Name
    architecture: Architecture
    energy: Picojoules
    before: Mapping[str, Reading]
    epochs: tuple[Epoch, ...] = ()
    after: Mapping[str, Reading] = Field(default_factory=dict)


class Binarization(JobRecord[BinarizeConfig]):
    """A whole binarization; `model` and `graph` are there when it is finished, relative to the record."""

    verb = "binarize"

    kind: Literal["binarization"] = "binarization"
    source: str
    model_key: str
    data: Mapping[str, JsonValue]
    pace: Reading
    architecture: Architecture
    energy: Picojoules
    first: Mapping[str, Reading]  # of the original, at the beginning
    original: Mapping[str, Reading] = Field(default_factory=dict)  # timed together with the stages
    original_test: Reading | None = None
    final_test: Reading | None = None
    stages: tuple[Stage, ...] = ()
    model: str | None = None
    graph: str | None = None

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The original and the data."""
        return {"model": self.model_key, "data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether a stage was read."""
        return bool(self.stages)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.model is not None

    @model_validator(mode="after")
    def _complete(self) -> Binarization:
        """What the report divides by and shows has to be there."""
        if not self.done:
            return self
        if not self.stages or self.graph is None or self.original_test is None or self.final_test is None:
            raise ValueError("a finished one has stages, a graph and readings of the test split")
        for readings in (self.original, *(stage.after for stage in self.stages)):
            missing = [name for name in (self.quality, *COSTS) if name not in readings]
            if missing:
                raise ValueError(f"a model has no reading of {', '.join(missing)}")
        costs = [self.original[name].value for name in COSTS]
        if not all(math.isfinite(value) and value > 0 for value in costs):
            raise ValueError("the original costs nothing")
        return self
