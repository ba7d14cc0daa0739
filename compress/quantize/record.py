"""The record of a quantization, a JSON file beside its graph: the course of the job and all that its report shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.quantize.config import QuantizeConfig
from wb.core.architecture import Architecture
from wb.core.measures.metrics import CONTINUING, LATENCIES, Limit
from wb.core.measures.readings import Reading
from wb.core.records import Frozen, Precision
from wb.jobs.frame.record import JobRecord

Inputs = Literal[
    "training images",
    "validation images",
    "validation features",
    "validation texts",
    "validation passages",
    "calibration inputs",
    "inputs kept out",
    "given inputs",
    "random inputs",
]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class OutputError(Frozen):
    """The distance of the quantized graph's outputs from the float graph's, over `n` inputs.

    `sqnr` in decibels, None where the outputs are equal; `agreement` is the share of inputs with the same highest class.
    """

    divergence: Finite
    kind: str
    sqnr: Finite | None
    agreement: Finite | None
    n: Count
    on: Inputs


class Group(Frozen):
    """One group: its precision, its number of weights, and the reason if it stays in floating point."""

    name: str
    precision: Precision
    weights: Count
    reason: str | None = None


class Candidate(Frozen):
    """A policy that `mixed` assessed: the precision of each quantized group, and the readings of the graph."""

    choice: Mapping[str, Precision]
    readings: Mapping[str, Reading]
    chosen: bool = False


class Quantization(JobRecord[QuantizeConfig]):
    """The record of a whole quantization; a finished one has `graph` and perhaps `model`, paths relative to the record.

    `ratio` is the quantized graph's latency over the float graph's, from the same measurement; of graphs that continue texts
    that of a token, and `ratios` has that of a prompt.
    """

    verb = "quantize"

    kind: Literal["quantization"] = "quantization"
    source: str
    model_key: str
    data: Mapping[str, JsonValue] | None
    calibration: Mapping[str, JsonValue] | None
    first: Mapping[str, Reading]  # of the float graph, at the beginning
    sensitivities: tuple[Sensitivity, ...] = ()
    slow: tuple[str, ...] | None = (
        None  # groups that were measured to be faster in floating point, if that was measured
    )
    candidates: tuple[Candidate, ...] = ()
    groups: tuple[Group, ...] = ()
    loose: Count | None = None  # floating-point numbers outside all groups: biases, norms, embeddings
    architecture: Architecture | None = None  # of the quantized graph; None for a foreign one
    floating: Mapping[str, Reading] = Field(default_factory=dict)  # timed together with `quantized`
    quantized: Mapping[str, Reading] = Field(default_factory=dict)
    ratio: Reading | None = None
    ratios: Annotated[Mapping[str, Reading], Field(exclude_if=lambda ratios: not ratios)] = Field(default_factory=dict)
    error: OutputError | None = None
    notes: tuple[str, ...] = ()
    near_chance: bool = False  # the float graph's quality is not told from chance, so that a change of it says nothing
    graph: str | None = None
    model: str | None = None

    @property
    def limits(self) -> dict[str, Limit]:
        """The budgets by what was given."""
        return self.config.limits(self.quality)

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The model or file, the data, and the calibration inputs."""
        return worked_on(self.model_key, None if self.data is None else self.data.get("fingerprint"), self.calibration)

    @property
    def begun(self) -> bool:
        """Whether anything has been measured that the result depends on."""
        return bool(self.sensitivities) or self.slow is not None

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.graph is not None

    @model_validator(mode="after")
    def _complete(self) -> Quantization:
        """Raises `ValueError` if a finished record lacks what the report divides by or shows."""
        if not self.done:
            return self
        if not self.groups or self.ratio is None or self.ratio.interval is None or self.error is None:
            raise ValueError("a finished one has groups, a ratio of latencies with its interval, and an output error")
        for readings in (self.floating, self.quantized):
            required = ("size", *(CONTINUING if self.ratios else LATENCIES[:1]))
            missing = [name for name in required if name not in readings]
            if missing:
                raise ValueError(f"a graph has no reading of {', '.join(missing)}")
            if not all(math.isfinite(readings[name].value) and readings[name].value > 0 for name in required):
                raise ValueError("a graph costs nothing")
        if self.floating.keys() != self.quantized.keys():
            raise ValueError("the two graphs have different readings")
        if not (math.isfinite(self.ratio.value) and min(self.ratio.interval) > 0):
            raise ValueError("the ratio of latencies is not positive")
        return self


def worked_on(model: str, data: JsonValue, calibration: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    """What a quantization works on, by fingerprints: model, data, and the description of the calibration inputs."""
    return {"model": model, "data": data, "calibration": None if calibration is None else dict(calibration)}
