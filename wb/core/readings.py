"""A number with its provenance: unit, how it was obtained, its spread, how often, on what."""

from __future__ import annotations

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
        """For people: `0.412 ms ±1.3 %`, with `~` before a predicted value."""
        sign = "~" if self.how == "predicted" else ""
        spread = ""
        if self.interval is not None and self.value:
            half = (self.interval[1] - self.interval[0]) / 2
            spread = f" ±{100 * half / abs(self.value):.1f} %"
        return f"{sign}{scaled(self.value, self.unit)}{spread}"


Readings = Mapping[str, Reading]


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
    return f"{value:.4g} {unit}"
