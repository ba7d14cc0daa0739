"""The record of a fusion, a JSON file beside its model: the course of the job and all that its report shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.statistics.paired import Paired
from wb.fusion.align.solvers import SHOWN
from wb.fusion.curve import Curve, Point
from wb.fusion.job.config import FuseConfig
from wb.fusion.match.match import By
from wb.jobs.frame.record import JobRecord
from wb.training.refit.judged import Refit

COUNTED = ("params", "macs")
MEASURED = ("test", "size")  # readings that need data, as does the quality on validation
Finite = Annotated[float, Field(allow_inf_nan=False)]
Kept = Mapping[str, Reading]
Match = tuple[tuple[int | None, ...], ...]


class Plan(Frozen):
    """The plan of one axis: how much of each entry of the parent (row) goes to each entry of the fused model (column).

    Large plans are pooled. A `signed` plan is a rotation; in any other each column sums to one.
    """

    axis: str
    signed: bool
    values: Annotated[tuple[tuple[Finite, ...], ...], Field(min_length=1, max_length=SHOWN)]

    @model_validator(mode="after")
    def _rectangular(self) -> Plan:
        if {len(row) for row in self.values} - {*range(1, SHOWN + 1)} or len({len(row) for row in self.values}) > 1:
            raise ValueError(f"the plan of {self.axis} is no matrix of at most {SHOWN} columns")
        return self


class ParentRow(Frozen):
    """One parent: its file, its readings, and its alignment to the fused model's axes.

    `before` and `costs` are distances by axis (`wb.fusion.align.align.Alignment`), empty for a parent that needed no alignment.
    `match` gives for each block of the fused model the parent's block that it comes from; () if they match in order. `matched_by`
    is the method that found the match, None if none was needed. `paired` compares the fused model with it on the test images.
    """

    name: str
    key: str
    architecture: Architecture
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    readings: Kept = Field(default_factory=dict)
    before: Mapping[str, Finite] = Field(default_factory=dict)
    costs: Mapping[str, Finite] = Field(default_factory=dict)
    plans: tuple[Plan, ...] = ()
    match: Match = ()
    matched_by: By | None = None
    paired: Paired | None = None


class Line(Frozen):
    """Loss and accuracy between the parents on the validation split, as they are (`vanilla`) or aligned."""

    name: Literal["vanilla", "aligned"]
    points: Annotated[tuple[Point, ...], Field(min_length=2)]

    @property
    def barrier(self) -> float:
        """The loss barrier in nats, at least 0."""
        return Curve(self.points).barrier

    @model_validator(mode="after")
    def _ordered(self) -> Line:
        shares = [point.share for point in self.points]
        if shares != sorted(shares) or not all(map(_finite, self.points)):
            raise ValueError(f"the points of {self.name} are out of order or no numbers")
        return self


class Fusion(JobRecord[FuseConfig]):
    """The record of a whole fusion; a fused one has `architecture`, a finished one `model` (a file's name).

    `graph` is the name of the ONNX file, None in records of older versions. `average` is read only if it was corrected, which
    gives `one_shot`; `tuned` only after fine-tuning. `against_ensemble` and `against_untuned` compare the fused model on the test
    images with the parents' ensemble and with itself before fine-tuning; `verdicts` are the conclusions in words. `ends` are loss
    and accuracy of each parent on the validation split, `points` those of the fused models. `refit` says whether the average was
    corrected, `untuned` that fine-tuning made it worse on validation examples, so that the model is that of before.
    """

    verb = "fuse"
    indent = None  # plans are long
    difference = "other settings, models or data"

    kind: Literal["fusion"] = "fusion"
    data: Mapping[str, JsonValue] = Field(default_factory=dict)
    parents: Annotated[tuple[ParentRow, ...], Field(min_length=1)]
    anchor: Annotated[int, Field(ge=0)]
    architecture: Architecture | None = None
    images: int = 0  # used for calibration
    notes: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    ends: tuple[Point, ...] = ()
    points: Mapping[str, Point] = Field(default_factory=dict)
    ensemble: Kept = Field(default_factory=dict)
    average: Kept = Field(default_factory=dict)
    one_shot: Kept = Field(default_factory=dict)
    tuned: Kept = Field(default_factory=dict)
    refit: Annotated[Refit | None, Field(exclude_if=is_none)] = None
    untuned: Annotated[bool, Field(exclude_if=lambda untuned: not untuned)] = False
    against_ensemble: Paired | None = None
    against_untuned: Paired | None = None
    verdicts: tuple[str, ...] = ()
    model: str | None = None  # relative to the record
    graph: str | None = None

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The parents and the data."""
        return worked_on([parent.key for parent in self.parents], self.data.get("fingerprint"))

    @property
    def begun(self) -> bool:
        """Whether the models are fused."""
        return self.architecture is not None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.model is not None

    @property
    def final(self) -> Kept:
        """The readings of the model that is written."""
        return self.one_shot if self.untuned or not self.tuned else self.tuned

    def variants(self) -> Iterator[tuple[str, Kept]]:
        """Name and readings of the models made, in order: average (if corrected), one shot, fine-tuned."""
        tuned = "fine-tuned, undone" if self.untuned else "fine-tuned"
        for name, readings in (("average", self.average), ("one shot", self.one_shot), (tuned, self.tuned)):
            if readings:
                yield name, readings

    def line(self, name: str) -> Line | None:
        """The curve of that name."""
        return next((line for line in self.lines if line.name == name), None)

    def barrier(self, line: Line) -> float:
        """The loss barrier of a curve over the straight line between the two parents' own losses, in nats, at least 0.

        With more than two parents, the line is between the curve's own ends.
        """
        if len(self.parents) != 2 or not self.ends:
            return line.barrier
        first, last = self.ends[self.anchor].loss, self.ends[1 - self.anchor].loss
        return max(0.0, *(p.loss - (1 - p.share) * first - p.share * last for p in line.points))

    @model_validator(mode="after")
    def _complete(self) -> Fusion:
        """Raises `ValueError` if something is missing or inconsistent that the report shows."""
        if self.anchor >= len(self.parents):
            raise ValueError(f"anchor {self.anchor} of {len(self.parents)} parents")
        if not all(map(_finite, (*self.points.values(), *self.ends))):
            raise ValueError("a point is no number")
        if self.lines and len(self.ends) != len(self.parents):
            raise ValueError(f"{len(self.ends)} ends of curves between {len(self.parents)} parents")
        if self.architecture is not None:
            for parent in self.parents:
                _check_match(parent, self.architecture)
        if self.model is not None:
            self._check_finished()
        return self

    def _check_finished(self) -> None:
        if self.architecture is None:
            raise ValueError("it is finished without an architecture")
        needed = (*COUNTED, *((self.quality, *MEASURED) if self.config.data is not None else ()))
        whole = [("a parent", parent.readings) for parent in self.parents]
        whole += [("the fused model", self.one_shot)]
        whole += [("the fine-tuned model", self.tuned)] if self.config.finetune else []
        whole += [("the ensemble", self.ensemble)] if len(self.parents) > 1 and self.config.data is not None else []
        for what, readings in whole:
            _check_readings(what, readings, needed)
        if self.average:
            _check_readings("the average", self.average, [name for name in needed if name != "test"])


def worked_on(parents: Sequence[str], data: JsonValue) -> dict[str, JsonValue]:
    """What a fusion works on, by fingerprints."""
    return {"models": list(parents), "data": data}


def _finite(point: Point) -> bool:
    return all(map(math.isfinite, (point.share, point.loss, point.accuracy)))


def _check_readings(what: str, readings: Kept, needed: Sequence[str]) -> None:
    missing = [name for name in needed if name not in readings]
    if missing:
        raise ValueError(f"{what} has no reading of {', '.join(missing)}")
    if not all(math.isfinite(readings[name].value) for name in needed):
        raise ValueError(f"a reading of {what} is no number")


def _check_match(parent: ParentRow, architecture: Architecture) -> None:
    if not parent.match:
        return
    blocks, own = ([len(stage.blocks) for stage in a.stages] for a in (architecture, parent.architecture))
    fits = [len(stage) for stage in parent.match] == blocks and len(own) == len(blocks)
    if not fits or any(
        block is not None and not 0 <= block < count
        for stage, count in zip(parent.match, own, strict=True)
        for block in stage
    ):
        raise ValueError("blocks are matched that are not there")
