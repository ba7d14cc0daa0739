"""The record of a pruning, a JSON file beside its models: the course of the job and all that its report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from wb.compress.prune.config import PruneConfig
from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import costs_of
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.statistics.verdict import Judgement, Remark, Verdict, lost_in_tuning
from wb.jobs.frame.record import JobRecord
from wb.training.refit.judged import Refit


class Round(Frozen):
    """One round: its stage, the aims of the cut, and the network it left; of the last of a stage, what refitting did."""

    stage: int
    aims: Mapping[str, float]
    architecture: Architecture
    readings: Mapping[str, Reading]
    predicted: Mapping[str, float]  # the cost models' prediction before they were corrected by this round's readings
    costs: Mapping[str, float]  # the readings that they were corrected by
    refit: Annotated[Refit | None, Field(exclude_if=is_none)] = None


class Result(Frozen):
    """One pruned model: its limits, the readings before fine-tuning and in the end, and its files.

    `discarded` is the quality after fine-tuning where that was worse, so that the model is the one before it. `judged` says
    which reading decided on each limit; records of older versions have none.
    """

    name: str
    limits: tuple[str, ...]
    verdict: Verdict
    judged: tuple[Judgement, ...] = ()
    architecture: Architecture
    parts: Mapping[str, Annotated[int, Field(ge=0)]]  # parameters by sub-layer
    before: Mapping[str, Reading]
    after: Mapping[str, Reading]
    discarded: Annotated[Mapping[str, Reading], Field(exclude_if=lambda readings: not readings)] = Field(
        default_factory=dict
    )
    test: Reading
    model: str  # path relative to the record
    graph: str | None = None  # its ONNX file, likewise; records of older versions have none

    @property
    def reason(self) -> str:
        """The verdict in words: the readings that are over their limits, with their intervals."""
        over = [one.text("the dense model") for one in self.judged if one.verdict != "met"]
        return " and ".join(over) or f"the last readings are over {', '.join(self.limits)}"


class Pruning(JobRecord[PruneConfig]):
    """The record of a whole pruning; a finished one has `results`."""

    verb = "prune"

    kind: Literal["pruning"] = Field(default="pruning", exclude=True)  # not written: the file's fields tell its kind
    model: str
    model_key: str
    data: Mapping[str, JsonValue]
    pace: Reading
    architecture: Architecture
    parts: Mapping[str, Annotated[int, Field(ge=0)]]  # parameters by sub-layer of the dense model
    dense: Mapping[str, Reading]  # when the limits were set
    dense_final: Mapping[str, Reading] = Field(default_factory=dict)  # timed together with the results
    dense_test: Reading | None = None
    spectrum: Mapping[str, tuple[float, ...]] = Field(default_factory=dict)
    rounds: tuple[Round, ...] = ()
    results: tuple[Result, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _older(cls, content: Any) -> Any:
        """Records of versions that neither rotated nor compensated say so."""
        match content:
            case {"config": {"settings": {**settings}, **config}, **rest}:
                did = {"rotate": False, "compensate": False, **settings}
                return {**rest, "config": {**config, "settings": did}}
        return content

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The dense model and the data."""
        return {"model": self.model_key, "data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether there is a round."""
        return bool(self.rounds)

    @property
    def done(self) -> bool:
        """Whether there are results."""
        return bool(self.results)

    @model_validator(mode="after")
    def _complete(self) -> Pruning:
        """Raises `ValueError` if a field is missing or zero that the report shows or divides by."""
        for readings in (self.dense, *([self.dense_final] if self.results else []), *(r.after for r in self.results)):
            # Records older than the energy model have no such reading.
            costs = (self.quality, *costs_of(continues=self.architecture.causal))
            missing = [name for name in costs if name not in readings and name != "energy"]
            if missing:
                raise ValueError(f"a model has no reading of {', '.join(missing)}")
        dense = [*self.dense.items(), *self.dense_final.items()]
        if not all(
            math.isfinite(reading.value) and reading.value > 0 for name, reading in dense if name != self.quality
        ):
            raise ValueError("the dense model costs nothing")
        if self.results and self.dense_test is None:
            raise ValueError("there are results without a reading of the test split")
        blocks = [name for name, _, _ in self.architecture.blocks()]
        for architecture in (*(r.architecture for r in self.results), *(r.architecture for r in self.rounds)):
            if [name for name, _, _ in architecture.blocks()] != blocks:
                raise ValueError("a pruned network has other blocks than the dense one")
        return self

    def check_budget(self) -> None:
        """Raises `BudgetMissed` if the last model is certainly over a budget; snapshots on the way may be over theirs."""
        last = self.results[-1]
        if last.verdict == "missed":
            raise BudgetMissed(
                f"the budget of {last.name} is missed: {last.reason}. The models are written, but a quieter machine or a lower "
                "budget is needed to be sure"
            )

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """Remarks on models over their limits, or that fine-tuning or refitting did not help; the last has to keep the budget."""
        found = []
        for result in self.results:
            if result.verdict == "missed":
                end = result is self.results[-1]
                what, way = ("the budget", "") if end else ("its share", "; only the last model has to keep the budget")
                found.append(Remark(f"{result.name} is over {what}: {result.reason}{way}.", end))
            elif result.verdict == "within noise":
                found.append(Remark(f"{result.name}: {result.reason}; whether it is over cannot be told."))
            if (worse := self._worse(result)) is not None:
                found.append(Remark(f"{result.name}: {worse.text}", worse.warn))
        found += [
            Remark(f"{name}: refitting what is left did not help: {refit.text}.")
            for name, refit in self.refits.items()
            if not refit.kept
        ]
        return tuple(found)

    @property
    def refits(self) -> dict[str, Refit]:
        """What refitting did, by the name of the model; of those that were refitted."""
        last = {round_.stage: round_.refit for round_ in self.rounds}
        found = {result.name: last.get(number) for number, result in enumerate(self.results)}
        return {name: refit for name, refit in found.items() if refit is not None}

    def _worse(self, result: Result) -> Remark | None:
        """That fine-tuning made a model worse, if it did. Models of older versions are those after it nevertheless."""
        if not self.config.finetune or self.quality not in result.before:
            return None
        before = result.before[self.quality]
        return lost_in_tuning(before, result.after[self.quality], result.discarded.get(self.quality))
