"""A number with its provenance: unit, how it was obtained, its spread, how often, on what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

How = Literal["counted", "measured", "predicted"]


class Reading(BaseModel):
    """One value of one metric.

    `interval` is the 95 % interval of `value` where one is known, in the same unit; `n` is the number of samples (for an
    accuracy, of examples). `note` says what a reader has to know, e.g. that a measurement did not become as narrow as
    asked for.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    unit: str
    how: How
    interval: tuple[float, float] | None = None
    n: int = 1
    device: str | None = None
    note: str | None = None

    def overlaps(self, other: Reading) -> bool:
        """Whether the two cannot be told apart: their 95 % intervals touch (a value without one is its own interval)."""
        low, high = self.interval or (self.value, self.value)
        other_low, other_high = other.interval or (other.value, other.value)
        return low <= other_high and other_low <= high

    def text(self) -> str:
        """For people: `0.412 ms ±1.3 %`, `33.98 % ±4.9 points`, with `~` before a predicted value."""
        return f"{self.plain()} {self.spread()}".rstrip()

    def plain(self) -> str:
        """`text` without the spread."""
        return ("~" if self.how == "predicted" else "") + scaled(self.value, self.unit)

    def spread(self) -> str:
        """Half the width of the interval, as a share of the value; empty where no interval is known.

        Of a fraction it is in percentage points, since "34 % ±14 %" reads as 20 to 48 %. Near 0 and 100 %, where half the
        width on either side would lead out of what is possible, each side is given: `-1.1/+0.0 points`.
        """
        if self.interval is None:
            return ""
        low, high = self.interval
        half = (high - low) / 2
        if self.unit != "fraction":
            return f"±{100 * half / abs(self.value):.1f} %" if self.value else ""
        if self.value - half < 0 or self.value + half > 1:
            return f"-{100 * (self.value - low):.1f}/+{100 * (high - self.value):.1f} points"
        return f"±{100 * half:.1f} points"


Readings = Mapping[str, Reading]


def ratio(above: Reading, below: Reading) -> Reading:
    """`above` over `below`, in x: of two latencies, what both were timed for together.

    The relative errors are added in quadrature, as for independent ones; there is no interval where neither has one.
    """
    value = above.value / below.value
    interval = None
    if above.interval is not None or below.interval is not None:
        (fall, rise), (fall_below, rise_below) = _errors(above), _errors(below)
        interval = value * math.exp(-math.hypot(fall, rise_below)), value * math.exp(math.hypot(rise, fall_below))
    return Reading(
        value=value,
        unit="x",
        how=above.how,
        interval=interval,
        n=min(above.n, below.n),
        device=above.device,
        note=above.note or below.note,
    )


def _errors(reading: Reading) -> tuple[float, float]:
    """How far the ends of the interval are from the value, as logarithms of factors."""
    low, high = reading.interval or (reading.value, reading.value)
    return math.log(reading.value / max(low, 1e-3 * reading.value)), math.log(high / reading.value)


def scaled(value: float, unit: str) -> str:
    """`value` with the prefix that keeps it readable."""
    if unit == "fraction":
        return f"{100 * value:.2f} %"
    if unit in ("B", "MAC", "parameters"):
        suffix = {"B": "B", "MAC": "", "parameters": ""}[unit]
        for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if abs(value) >= factor:
                return f"{value / factor:.4g} {prefix}{suffix}".rstrip()
        return f"{value:.4g} {suffix}".rstrip()
    if unit == "pJ":
        for factor, larger in ((1e9, "mJ"), (1e6, "µJ"), (1e3, "nJ")):
            if abs(value) >= factor:
                return f"{value / factor:.4g} {larger}"
    return f"{value:.3f}x" if unit == "x" else f"{value:.4g} {unit}"
