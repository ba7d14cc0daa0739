"""The record of a search from a trained model: what was chosen, how far scores added up, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, JsonValue, model_validator

from wb.core.architecture import Architecture
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import METRICS, costs_of
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.records.base import is_none
from wb.core.statistics.verdict import Judgement, Remark, Verdict, lost_in_tuning
from wb.jobs.frame.record import JobRecord
from wb.search.trained.config import TrainedConfig
from wb.training.refit.judged import Refit

ADDITIVE = 0.8  # Kendall's tau from which summed scores rank choices well


class Pair(Frozen):
    """A choice of alternatives: the sum of its scores, and its divergence, in nats; of one that the program made, for what."""

    predicted: FiniteFloat
    measured: FiniteFloat
    point: str | None = None


class Made(Frozen):
    """A choice that landed on the budget of a network, as cut.

    `choice` has what is not whole. Divergences are in nats: the sum of scores, and that measured on the images that score.
    """

    name: str
    aims: Mapping[str, float]
    choice: Mapping[str, str]
    predicted: FiniteFloat
    measured: FiniteFloat
    taken_from: Annotated[str | None, Field(exclude_if=is_none)] = None  # a cheaper one, as good
    refit: Annotated[Refit | None, Field(exclude_if=is_none)] = None  # what the correction did


class Result(Frozen):
    """One network: its limits, its readings as cut, corrected and in the end, and its files, relative to the record.

    `discarded` is the quality after fine-tuning where that was worse, so that the network is the one before it. `divergences` are
    from the model on validation images, in nats, by step.
    """

    name: str
    limits: tuple[str, ...]
    verdict: Verdict
    judged: tuple[Judgement, ...]
    architecture: Architecture
    divergences: Mapping[str, FiniteFloat]
    before: Mapping[str, Reading]  # quality as corrected, before fine-tuning
    after: Mapping[str, Reading]
    discarded: Annotated[Mapping[str, Reading], Field(exclude_if=lambda readings: not readings)] = Field(
        default_factory=dict
    )
    test: Reading
    model: str
    graph: str
    on_front: bool = True

    @property
    def reason(self) -> str:
        """The verdict in words."""
        return " and ".join(one.text("the model") for one in self.judged if one.verdict != "met")


class TrainedSearch(JobRecord[TrainedConfig]):
    """The record; a finished one has `results`, the dearest first."""

    verb = "search --from"
    indent = 1

    kind: Literal["search from a model"] = "search from a model"
    model: str
    model_key: str
    data: Mapping[str, JsonValue]
    pace: Reading
    architecture: Architecture
    dense: Mapping[str, Reading]  # when the limits were set
    dense_final: Mapping[str, Reading] = Field(default_factory=dict)
    dense_test: Reading | None = None
    alternatives: int = 0
    ladder: Annotated[
        tuple[FiniteFloat, ...], Field(exclude_if=lambda shares: not shares)
    ] = ()  # of a front, in shares
    limits: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)  # of each network, by its name
    made: tuple[Made, ...] = ()
    random: tuple[Pair, ...] = ()
    tau: FiniteFloat | None = None
    results: tuple[Result, ...] = ()

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The model and the data."""
        return {"model": self.model_key, "data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether a network is chosen; the library is kept elsewhere."""
        return bool(self.made)

    @property
    def done(self) -> bool:
        """Whether there are results."""
        return bool(self.results)

    @model_validator(mode="after")
    def _complete(self) -> TrainedSearch:
        """Raises `ValueError` if a reading is missing that the page shows or divides by."""
        named = costs_of(continues=self.architecture.causal)
        for readings in (self.dense, *([self.dense_final] if self.results else []), *(r.after for r in self.results)):
            missing = [name for name in (self.quality, *named) if name not in readings]
            if missing:
                raise ValueError(f"a network has no reading of {', '.join(missing)}")
        if any(reading.value <= 0 for name, reading in self.dense_final.items() if name in named):
            raise ValueError("the model costs nothing")
        if self.results and self.dense_test is None:
            raise ValueError("there are results without a reading of the test split")
        return self

    def check_budget(self) -> None:
        """Raises `BudgetMissed` if a network is certainly over its budget; of a front none has to keep one."""
        missed = [result for result in self.results if result.verdict == "missed"]
        if missed and self.config.front is None:
            said = "; ".join(f"{result.name}: {result.reason}" for result in missed)
            raise BudgetMissed(
                f"a budget is missed: {said}. The networks are written, but a quieter machine or a lower budget is needed to "
                "be sure"
            )

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What users should know beside the readings."""
        found = [
            Remark(f"{one.name} is the same as {one.taken_from}: no larger choice was found that diverges less.")
            for one in self.made
            if one.taken_from is not None
        ]
        if self.tau is not None and self.tau < ADDITIVE:
            found.append(
                Remark(f"Scores hardly add up here (Kendall's tau {self.tau:.2f}): other choices may be better.", True)
            )
        for result in self.results:
            budget = self.config.front is None  # those of a front only say where its networks are to be
            if budget and result.verdict == "missed":
                found.append(Remark(f"{result.name} is over its budget: {result.reason}.", True))
            elif budget and result.verdict == "within noise":
                found.append(Remark(f"{result.name}: {result.reason}; whether it is over cannot be told."))
            if (worse := self._worse(result)) is not None:
                found.append(Remark(f"{result.name}: {worse.text}", worse.warn))
        found += [
            Remark(f"{one.name}: the correction did not help: {one.refit.text}.")
            for one in self.made
            if one.refit is not None and not one.refit.kept
        ]
        return tuple(found)

    def _worse(self, result: Result) -> Remark | None:
        """That fine-tuning made a network worse, if it did. Networks of older versions are those after it nevertheless."""
        if not result.before:
            return None
        before = result.before[self.quality]
        return lost_in_tuning(before, result.after[self.quality], result.discarded.get(self.quality))

    @property
    def limited(self) -> list[str]:
        """The names of the metrics with budgets."""
        asked = {text.split()[0] for texts in self.limits.values() for text in texts}
        return [name for name in METRICS if name in asked]
