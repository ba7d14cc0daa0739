"""Finding the groups that make a quantized graph fail, by bisection."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def refused(groups: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """The groups that fail (`works` is false) even alone. Groups that fail only together with others are not found."""
    if not groups or works(groups):
        return []
    if len(groups) == 1:
        return list(groups)
    middle = len(groups) // 2
    return [*refused(groups[:middle], works), *refused(groups[middle:], works)]
