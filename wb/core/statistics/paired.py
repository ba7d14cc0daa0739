"""Paired comparison of two classifiers on the same images, with an interval for the difference of their accuracies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from wb.core.records import Frozen
from wb.core.statistics.scores import Z95


class Paired(Frozen):
    """Counts of `n` images: `won` are right only with the first model, `lost` only with the second."""

    won: Annotated[int, Field(ge=0)]
    lost: Annotated[int, Field(ge=0)]
    n: Annotated[int, Field(ge=1)]

    @classmethod
    def of(cls, one: Sequence[bool], other: Sequence[bool]) -> Self:
        """Counts from whether each model is right, image by image."""
        pairs = list(zip(one, other, strict=True))
        won, lost = (sum(bool(a) and not b for a, b in part) for part in (pairs, [(b, a) for a, b in pairs]))
        return cls(won=won, lost=lost, n=len(pairs))

    @property
    def points(self) -> float:
        """The difference of the two accuracies, in percentage points."""
        return 100 * (self.won - self.lost) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, in percentage points, for a random sample of `n` images.

        Pairing makes it narrower than the intervals of the two accuracies.

        Source: Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on
        Paired Data", 2012, https://doi.org/10.3102/1076998611411915
        """
        n = self.n + 2
        won, lost = (self.won + 1) / n, (self.lost + 1) / n
        half = Z95 * math.sqrt((won + lost - (won - lost) ** 2) / n)
        low, high = (100 * max(-1.0, min(1.0, won - lost + sign * half)) for sign in (-1, 1))
        return low, high

    @property
    def sure(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        low, high = self.interval
        return low > 0 or high < 0

    def text(self) -> str:
        """`-1.4 points, 95 % interval -3.0 to +0.2; 7 of 359 images are right only here, 12 only there`."""
        low, high = self.interval
        return (
            f"{self.points:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}; {self.won} of {self.n} images are right only "
            f"here, {self.lost} only there"
        )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.won + self.lost > self.n:
            raise ValueError(f"{self.won} won and {self.lost} lost of {self.n} images")
        return self
