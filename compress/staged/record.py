"""The record of a job that changes a model in stages, a JSON file beside its model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import Field, JsonValue, model_validator

from wb.core.architecture import Architecture
from wb.core.measures.metrics import costs_of
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.jobs.frame.config import JobConfig
from wb.jobs.frame.record import JobRecord

Picojoules = Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]  # by part
# The stages: hash attention, binary weights, ternary weights; other mixers, other norms.
Name = Literal["hash", "w1", "w2", "mixers", "paths", "norms"]


class Epoch(Frozen):
    """One epoch of fine-tuning, counted from 1, and its mean loss."""

    number: Annotated[int, Field(ge=1)]
    loss: Annotated[float, Field(allow_inf_nan=False)]


class Stage(Frozen):
    """One stage: the network, its modelled energy by part, and the readings before and after fine-tuning.

    `after` is read at the end, of all models together.
    """

    name: Name
    architecture: Architecture
    energy: Picojoules
    before: Mapping[str, Reading]
    epochs: tuple[Epoch, ...] = ()
    after: Mapping[str, Reading] = Field(default_factory=dict)


C = TypeVar("C", bound=JobConfig)


class StagedRecord(JobRecord[C]):
    """The record of a whole job; a finished one has `model` and `graph`, paths relative to the record."""

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

    titles: ClassVar[Mapping[str, str]]  # of the stages that it may have
    reasons: ClassVar[Mapping[str, str]] = {}  # by stage, why this runtime may be slow
    meant: ClassVar[Mapping[str, str]] = {}  # by metric that the job is meant to lower, what is said where it does not
    tuning: ClassVar[str] = ""  # what is said of fine-tuning beside what all have in common

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The original and the data."""
        return {"model": self.model_key, "data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether a stage has been read."""
        return bool(self.stages)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.model is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Raises `ValueError` if a finished record lacks what the report divides by or shows, or has stages of other jobs."""
        if any(stage.name not in self.titles for stage in self.stages):
            raise ValueError(f"its stages are {', '.join(self.titles)}")
        if not self.done:
            return self
        if not self.stages or self.graph is None or self.original_test is None or self.final_test is None:
            raise ValueError("a finished one has stages, a graph and readings of the test split")
        named = costs_of(continues=self.architecture.causal)
        for readings in (self.original, *(stage.after for stage in self.stages)):
            missing = [name for name in (self.quality, *named) if name not in readings]
            if missing:
                raise ValueError(f"a model has no reading of {', '.join(missing)}")
        costs = [self.original[name].value for name in named]
        if not all(math.isfinite(value) and value > 0 for value in costs):
            raise ValueError("the original costs nothing")
        return self
