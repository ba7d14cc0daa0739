"""The record of early exits, a JSON file beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from wb.compress.exits.config import ExitsConfig
from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.statistics.paired import Paired
from wb.jobs.frame.record import JobRecord

Share = Annotated[float, Field(ge=0, le=1)]
WANTED = 0.75  # of the latency without exits, at equal accuracy


class Way(Frozen):
    """One way out: its name, the latency of leaving by it always, and the accuracy of its own answers on validation images."""

    name: str
    latency: Reading
    validation: Reading


class Rung(Frozen):
    """Gates for one beta; or, where that is None, the cheapest that keep the validation accuracy of the network without exits.

    `validation` is the accuracy on validation images with gates trained on others of them, `leaving` the shares of test
    images that leave by each exit and by none. `expected` is the latency that follows from the exits of the images that are
    timed and from the latencies of the ways, `latency` the one that was measured on them, and `ratio` that over the
    latency of the network without exits. `paired` compares its right test answers with those of the network without.
    """

    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    validation: Reading
    crossed: tuple[Share, ...]  # shares of validation images, as `validation`
    leaving: tuple[Share, ...] = ()
    test: Reading | None = None
    paired: Paired | None = None
    expected: Reading | None = None
    latency: Reading | None = None
    ratio: Reading | None = None

    @property
    def name(self) -> str:
        """What the gates were chosen by, for a column of betas."""
        return "kept" if self.beta is None else f"{self.beta:g}"

    @property
    def dial(self) -> str:
        """The same in words."""
        return "accuracy kept" if self.beta is None else f"beta {self.beta:g}"


class EarlyExits(JobRecord[ExitsConfig]):
    """The record of a whole job; a finished one has `model` and `graph`, paths relative to the record.

    `alone` is the latency of the network without exits, timed with the `ways`; `without` its readings beside those of the rungs.
    """

    verb = "exits"

    kind: Literal["early exits"] = "early exits"
    source: str
    model_key: str
    data: Mapping[str, JsonValue]
    architecture: Architecture
    after: tuple[str, ...]
    given: bool = False  # whether the model had exits before, whose gates alone were trained anew
    ways: tuple[Way, ...] = ()
    alone: Reading | None = None
    whole: Reading | None = None  # the validation accuracy of the network without exits
    rungs: tuple[Rung, ...] = ()
    beta: float | None = None
    without: Mapping[str, Reading] = Field(default_factory=dict)
    parity: Reading | None = None  # of the graph's logits from torch's
    model: str | None = None
    graph: str | None = None

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The model and the data."""
        return {"model": self.model_key, "data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether heads were fitted and the ways timed."""
        return bool(self.ways)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.model is not None

    @property
    def chosen(self) -> Rung:
        """The rung whose gates the model has."""
        return next(rung for rung in self.rungs if rung.beta == self.beta)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Raises `ValueError` if a finished record lacks what the report shows."""
        if not self.done:
            return self
        if len(self.ways) != len(self.after) + 1 or self.beta not in {rung.beta for rung in self.rungs}:
            raise ValueError("a finished one has the ways out, and the rung whose gates it has")
        if (
            not {"latency", "test"} <= self.without.keys()
            or self.alone is None
            or self.whole is None
            or self.graph is None
        ):
            raise ValueError("a finished one has a graph, and readings of the network without exits")
        for rung in self.rungs:
            if None in (rung.test, rung.paired, rung.expected, rung.latency, rung.ratio):
                raise ValueError("a finished one has all readings of every rung")
            if len(rung.leaving) != len(self.ways):
                raise ValueError("a rung has a share for each way out")
        return self
