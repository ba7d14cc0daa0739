"""Joint alignment: every parent is aligned to the mean of the others, so that the result depends less on one reference.

Source: Crisostomi et al., "C²M³: Cycle-Consistent Multi-Model Merging", 2024, https://arxiv.org/abs/2405.17897, for the
aim; the alternation is generalised Procrustes analysis (Gower, 1975).
Limits: weights only; each round costs one alignment for each parent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wb.fusion.align.align import Alignment
from wb.fusion.fit.merge import Aligned, merge
from wb.fusion.match.placed import Placed
from wb.models.model import Model

ROUNDS = 10
TOLERANCE = 1e-4  # of the mean distance


def settle(
    reference: Model,
    parents: Sequence[Aligned],
    shares: Sequence[float],
    align: Callable[[Placed, Model], Alignment],
) -> tuple[list[Aligned], list[Alignment | None]]:
    """Aligns each of `parents`, already on the axes of `reference`, to the mean of the others, until they come no closer.

    Returns the parents and the last alignment of each (None if it was never aligned).
    """
    found = list(parents)
    alignments: list[Alignment | None] = [None] * len(found)
    before = float("inf")
    for _ in range(ROUNDS):
        for i, parent in enumerate(found):
            others = [0.0 if j == i else share for j, share in enumerate(shares)]
            total = sum(others)
            if not total:  # this parent has the whole share, so there is no mean of the others
                continue
            mean = merge(reference, found, [share / total for share in others])
            alignment = alignments[i] = align(parent.parent, mean)
            found[i] = Aligned(parent.parent, alignment.maps)
        costs = [cost for alignment in alignments if alignment is not None for cost in alignment.costs.values()]
        now = sum(costs) / len(costs) if costs else 0.0
        if now > before * (1 - TOLERANCE):
            break
        before = now
    return found, alignments
