"""Which groups are to blame where a graph with all of them in fewer bits fails: found by halving."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def refused(groups: Sequence[str], works: Callable[[Sequence[str]], bool]) -> list[str]:
    """The groups of `groups` that do not even `work` alone; those that only fail together with others are not found."""
    if not groups or works(groups):
        return []
    if len(groups) == 1:
        return list(groups)
    middle = len(groups) // 2
    return [*refused(groups[:middle], works), *refused(groups[middle:], works)]
