"""Accuracies: Wilson's interval, and comparison with the majority class (chance)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from wb.core.measures.readings import Reading, scaled

Z95 = 1.959963984540054
NEAR = 0.05  # an accuracy at most so far above the majority class is shown together with that class's share


def score(right: int, labels: Iterable[int], device: str) -> Reading:
    """The top-1 accuracy of `right` answers to images with these `labels`, as a fraction, with Wilson's 95 % interval.

    The interval is that of a random sample of images from the population; for these images the number is exact. If the
    interval reaches down to about the share of the largest class, the note states that share: always naming that class would
    give the same accuracy.
    """
    counts = Counter(labels)
    n = sum(counts.values())
    interval = wilson(right, n)
    largest = max(counts.values()) / n
    note = None
    if interval[0] <= largest + NEAR:
        note = f"always naming the largest class would give {scaled(largest, 'fraction')}"
    return Reading(value=right / n, unit="fraction", how="measured", interval=interval, n=n, device=device, note=note)


def near(accuracy: float, largest: float) -> bool:
    """Whether an accuracy is near chance, i.e. near `largest`, the share of the largest class; both are fractions.

    Near means at most `NEAR` of the way from `largest` to 1. The note of `score` then states that share.
    """
    return accuracy <= largest + NEAR * (1 - largest)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `right` out of `n`.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    share, z2 = right / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding at 0 and 1
