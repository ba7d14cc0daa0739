"""The cheapest gates that keep the accuracy of the network without exits, found on validation images.

All gates are chosen together. From the first exit on, every combination that is left so far is tried with each value of the
next gate; of those that are right alike often, if all others went to the end, the cheapest stays. Gates that are chosen
by few hundred examples look better on these than they are. So there are many ways to choose, those that have to be right
more often than the network without exits by one of `MARGINS`, and those of a fine ladder of betas. The way is taken whose
gates cost least on examples that they were not found on, of those that are right there as often as that network is.

Limits: exact for one exit, but for the values that are tried; for several, what is dearer so far may be cheaper at the end.
That the best of many ways is taken flatters its accuracy on other examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wb.compress.exits.gates import FOLDS, Candidates, Gates, Judged, left_at, parting
from wb.models.exits.module import ALWAYS, NEVER, sure

MARGINS = (0.0, 0.0025, 0.005, 0.01, 0.015, 0.02)
BETAS = tuple(k / 40 for k in range(1, 21))
STATES = 256  # combinations that are carried on from exit to exit, at most


class Kept(NamedTuple):
    """Gates, and the exit (n) that each example leaves by with gates found in the same way on others of them."""

    gates: Gates
    crossed: Tensor


class Joint:
    """Combinations of gates for some examples: how many each has right (c), and what it costs on average (c)."""

    def __init__(self, judged: Judged, shares: Sequence[float]) -> None:
        self.gates: list[Gates] = [()]
        right = [(answer.argmax(1) == judged.labels).double() for answer in judged.answers]
        # (n, 2): what an example adds to the right ones and to the cost where it leaves by an exit, and at the end
        *ends, end = [
            torch.stack([one, torch.full_like(one, share)], 1) for one, share in zip(right, shares, strict=True)
        ]
        staying = torch.ones(1, len(judged.labels), dtype=torch.float64)
        gone = torch.zeros(1, 2, dtype=torch.float64)  # of those that left
        for answer, there in zip(judged.answers, ends, strict=False):
            seen = sure(answer)
            values = torch.tensor([ALWAYS, *parting(seen), NEVER])
            taken = torch.stack([gone + (staying * (seen > value)) @ there for value in values])  # (values, c, 2)
            left = torch.stack([(staying * (seen <= value)) @ end for value in values])
            value, state = _split(_cheapest((taken + left).flatten(0, 1)), len(staying))
            self.gates = [
                (*self.gates[j], float(values[i])) for i, j in zip(value.tolist(), state.tolist(), strict=True)
            ]
            gone, staying = taken[value, state], staying[state] * (seen <= values[value][:, None])
        found = gone + staying @ end
        self.right, self.cost = found[:, 0], found[:, 1] / len(judged.labels)

    def cheapest(self, least: float) -> Gates:
        """Those of least cost that have at least so many right; where none have, of those with the most."""
        enough = (self.right >= min(least, float(self.right.max())) - 1e-9).nonzero()[:, 0]
        return self.gates[int(enough[self.cost[enough].argmin()])]


def kept(judged: Judged, own: Tensor, shares: Sequence[float], seed: int) -> Kept:
    """Such gates for the examples; `own` (n) says where the network without exits is right.

    Where no way keeps the accuracy nothing leaves.
    """
    count, ends = len(judged.labels), len(shares) - 1
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    crossed = torch.full((len(MARGINS) + len(BETAS) + 1, count), ends)  # the last way: nothing leaves
    for part in order.chunk(min(FOLDS, count)):
        outside = torch.ones(count, dtype=torch.bool)
        outside[part] = False
        ways = _ways(judged.take(outside.nonzero()[:, 0]), own[outside], shares)
        held = judged.take(part).answers
        crossed[:-1, part] = torch.stack([left_at(gates, held) for gates in ways])
    answers = torch.stack([answer.argmax(1) for answer in judged.answers])  # (exits + 1, n)
    right = (answers.gather(0, crossed) == judged.labels).sum(dim=1)
    costs = torch.tensor(shares, dtype=torch.float64)[crossed].mean(dim=1)
    enough = right >= int(own.sum())
    enough[-1] = True
    best = int(torch.where(enough, costs, torch.inf).argmin())
    gates = [*_ways(judged, own, shares), (NEVER,) * ends][best]
    return Kept(gates, crossed[best])


def _ways(judged: Judged, own: Tensor, shares: Sequence[float]) -> list[Gates]:
    """The gates that every way chooses for these examples."""
    joint, candidates = Joint(judged, shares), Candidates(judged, shares, BETAS)
    least = [float(own.sum()) + margin * len(own) for margin in MARGINS]
    return [*map(joint.cheapest, least), *map(candidates.best, BETAS)]


def _split(index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices of a flattened (…, count) as those of its two dimensions."""
    return index // count, index % count


def _cheapest(found: Tensor) -> Tensor:
    """Of rows (right, cost) the cheapest of each number of right ones, `STATES` at most: their indices."""
    order = found[:, 1].argsort(stable=True)
    low, high = found[:, 0].min(), found[:, 0].max()
    step = ((high - low) / (STATES - 1)).clamp(min=1.0)
    level = ((found[order, 0] - low) / step).floor().long()
    first = torch.full((int(level.max()) + 1,), len(order), dtype=torch.int64)
    first.scatter_reduce_(0, level, torch.arange(len(order)), reduce="amin")
    return order[first[first < len(order)]]
