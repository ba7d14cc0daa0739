"""The record of an aspect sweep, a JSON file beside its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Literal, Self

from pydantic import JsonValue, model_validator
from scipy import stats

from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.jobs.frame.record import JobRecord
from wb.jobs.sweep.config import AspectConfig
from wb.jobs.sweep.shapes import Shape

PUBLISHED = 3.1  # times as fast on a CPU: the paper's widest network against its deepest


class Timing(Frozen):
    """All shapes, timed together: `metric` says which run, `tokens` of how long a text, None for images.

    `latencies` are in ms, by the names of shapes; `faster` is how many times as fast as the deepest each is.
    """

    metric: str
    tokens: int | None
    latencies: Mapping[str, Reading]
    faster: Mapping[str, Reading]


class Trial(Frozen):
    """One training of a shape: the task's metric on both splits, read from the exported graph."""

    shape: str
    seed: int
    validation: Reading
    test: Reading


class AspectSweep(JobRecord[AspectConfig]):
    """The record of a whole sweep; `shapes` begin with the deepest, `counted` are size, parameters and MACs of each."""

    verb = "sweep aspect"
    difference = "other settings or other data"

    kind: Literal["aspect sweep"] = "aspect sweep"
    data: Mapping[str, JsonValue]
    shapes: tuple[Shape, ...]
    counted: Mapping[str, Mapping[str, Reading]] = {}
    timings: tuple[Timing, ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def worked_on(self) -> Mapping[str, JsonValue]:
        """The data."""
        return {"data": self.data.get("fingerprint")}

    @property
    def begun(self) -> bool:
        """Whether all were timed."""
        return bool(self.timings)

    @property
    def done(self) -> bool:
        """Whether every shape was trained as often as asked for."""
        return self.begun and len(self.trials) == len(self.shapes) * self.config.seeds

    @property
    def deepest(self) -> Shape:
        """What the others are compared with."""
        return self.shapes[0]

    def tests(self, shape: Shape) -> list[Reading]:
        """The readings on the test split by seed."""
        return [one.test for one in sorted(self.trials, key=lambda one: one.seed) if one.shape == shape.name]

    def quality_of(self, shape: Shape) -> Reading:
        """The mean over seeds on the test split."""
        return over_seeds([one.value for one in self.tests(shape)], self.metric.unit)

    def gain(self, shape: Shape) -> Reading:
        """By how much the metric is above the deepest's on the test split: the mean of differences seed by seed."""
        pairs = zip(self.tests(shape), self.tests(self.deepest), strict=True)
        return over_seeds([one.value - other.value for one, other in pairs], self.metric.unit)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Raises `ValueError` if a record lacks what the report shows."""
        names = {shape.name for shape in self.shapes}
        if len(self.shapes) < 2 or len(names) < len(self.shapes):
            raise ValueError("a sweep has two shapes or more, of different names")
        if any(names != timing.latencies.keys() or names != timing.faster.keys() for timing in self.timings):
            raise ValueError("every shape is timed wherever one is")
        if self.begun and self.counted.keys() != names:
            raise ValueError("every shape is counted")
        seeds = range(self.config.seed, self.config.seed + self.config.seeds)
        if self.done and {(one.shape, one.seed) for one in self.trials} != {(n, s) for n in names for s in seeds}:
            raise ValueError("every shape is trained once with every seed")
        return self


def over_seeds(values: Sequence[float], unit: str) -> Reading:
    """The mean of measured values of several trainings; `n` counts them.

    The interval is Student's for a mean, which supposes that trainings scatter normally; of one training there is none.
    """
    n, mean = len(values), fmean(values)
    interval = None
    if n > 1:
        half = float(stats.t.ppf(0.975, n - 1)) * spread(values) / math.sqrt(n)
        interval = mean - half, mean + half
    return Reading(value=mean, unit=unit, how="measured", interval=interval, n=n)


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 of one value."""
    return stdev(values) if len(values) > 1 else 0.0
