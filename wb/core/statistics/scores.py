"""Accuracies: a share of right answers with its interval, what always naming one class would give, and which of two is higher."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from wb.core.readings import Reading, scaled

Z95 = 1.959963984540054
NEAR = 0.05  # above the share of the largest class, an accuracy is worth little without that share beside it


def score(right: int, labels: Iterable[int], device: str) -> Reading:
    """The top-1 accuracy of `right` answers to images with these `labels`, as a fraction, with Wilson's 95 % interval.

    The interval is that of a draw of as many images from the population; the number itself is exact. Where it is near the
    share of the largest class, or may be below it, the note says that share: whoever always names that class has it too.
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
    """Whether an accuracy is near chance where the largest class has that share of the images, both as fractions.

    It is, where it is at most `NEAR` of the way from always naming that class to being always right; the share is said in
    the note then, and where little is left of that way.
    """
    return accuracy <= largest + NEAR * (1 - largest)


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of `right` out of `n`.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953
    """
    share, z2 = right / n, Z95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # at the ends, rounding aside
