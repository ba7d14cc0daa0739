"""Which exit each example should leave by, and gates that learn it.

The loss of leaving early is a regret: how much less probable the right class is there than at the end, zero where it is not
less. Its price is `beta` times the latency, as a share of the whole network's. An example's ideal exit has the least sum of
the two; of several the deepest. An example leaves by the first exit whose answer is surer than the exit's gate, a number;
gates are those with the least mean sum over the examples, found by going through the exits in turn and trying for each
the values that part the examples, until nothing changes. Candidates are the gates found for every beta of the `LADDER`, and
those that always leave by one exit, or never; each beta takes the best of them. So with beta 0 nothing leaves, whatever the
examples, and of two betas of the ladder the larger never costs more on them.

Source: Ahmed et al., "ECO-M2F", 2024, https://arxiv.org/abs/2404.15244: utility of an exit, its loss less beta times its
depth; gates trained for each beta while the network stays.
Differs: depth is measured latency; gates minimise the sum itself instead of the distance of two softmaxes; the regret is
never negative.
Limits: an exit that is right where the end is wrong is not sought out. Descent by turns may miss the best combination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.exits.module import ALWAYS, NEVER, sure

LADDER = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
FOLDS = 5
TURNS = 8  # at most
VALUES = 64  # of a gate that are tried, evenly spaced among the examples
Gates = tuple[float, ...]  # one for each exit


class Judged(NamedTuple):
    """Examples as exits see them: the answers (n, C) of every exit and of the end, and labels (n)."""

    answers: tuple[Tensor, ...]
    labels: Tensor

    def take(self, index: Tensor) -> Judged:
        """Some of the examples."""
        return Judged(tuple(answer[index] for answer in self.answers), self.labels[index])

    def regrets(self) -> Tensor:
        """What leaving by each exit loses, in probability of the right class: (n, exits + 1), the last column zero."""
        right = [answer.softmax(dim=1).gather(1, self.labels[:, None])[:, 0] for answer in self.answers]
        return (right[-1][:, None] - torch.stack(right, dim=1)).clamp(min=0)


def left_at(gates: Gates, answers: Sequence[Tensor]) -> Tensor:
    """The number of the exit that each example leaves by: (n)."""
    return _left([sure(answer) for answer in answers[:-1]], gates)


def _left(seen: Sequence[Tensor], gates: Gates) -> Tensor:
    found = torch.full((len(seen[0]),), len(gates))
    for k in reversed(range(len(gates))):
        found[seen[k] > gates[k]] = k
    return found


class Candidates:
    """Gates for some examples and betas, of which each beta takes the best."""

    def __init__(self, judged: Judged, shares: Sequence[float], betas: Sequence[float] = LADDER) -> None:
        self.shares, self.regrets = torch.tensor(shares, dtype=torch.float64), judged.regrets().double()
        self.seen = [sure(answer) for answer in judged.answers[:-1]]
        count = len(self.seen)
        self.gates: list[Gates] = [
            tuple(ALWAYS if k == number else NEVER for k in range(count)) for number in reversed(range(count + 1))
        ]
        self.tried = [torch.tensor([ALWAYS, *parting(values), NEVER]) for values in self.seen]
        self.gates += [self._found(beta) for beta in sorted({*LADDER, *betas}) if beta > 0]

    def best(self, beta: float) -> Gates:
        """The candidate with the least mean regret plus price; of equal ones the first: never to leave comes first."""
        return min(self.gates, key=lambda gates: self._sum(_left(self.seen, gates), beta))

    def _sum(self, left: Tensor, beta: float) -> float:
        return float(self.regrets.gather(1, left[:, None]).mean() + beta * self.shares[left].mean())

    def _found(self, beta: float) -> Gates:
        """Gates for one beta, from those at which all go to the end."""
        gates: Gates = (NEVER,) * len(self.seen)
        for _ in range(TURNS):
            before = gates
            for k in reversed(range(len(gates))):
                gates = self._turned(gates, k, beta)
            if gates == before:
                break
        return gates

    def _turned(self, gates: Gates, k: int, beta: float) -> Gates:
        """The same with the best value for one exit; of equal ones the highest."""
        sums = self.regrets + beta * self.shares
        earlier = torch.zeros(len(sums), dtype=torch.bool)
        for j in range(k):
            earlier |= self.seen[j] > gates[j]
        elsewhere = _left(self.seen, (*gates[:k], NEVER, *gates[k + 1 :]))
        there = torch.where(
            earlier, 0.0, sums[:, k] - sums.gather(1, elsewhere[:, None])[:, 0]
        )  # what leaving here changes
        changes = ((self.seen[k] > self.tried[k][:, None]) * there).mean(dim=1)
        best = len(changes) - 1 - int(changes.flip(0).argmin())
        return (*gates[:k], float(self.tried[k][best]), *gates[k + 1 :])


def parting(values: Tensor) -> list[float]:
    """Numbers between neighbours of the values, `VALUES` at most."""
    ordered = values.unique().double()
    between = ((ordered[1:] + ordered[:-1]) / 2).float()
    step = max(1.0, len(between) / VALUES)
    return [float(between[int(i * step)]) for i in range(int(len(between) / step))]


def crossed(judged: Judged, shares: Sequence[float], betas: Sequence[float], seed: int) -> Mapping[float, Tensor]:
    """By beta, the exit (n) that each example leaves by with gates found on other examples, in `FOLDS` parts."""
    count = len(judged.labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    found = {beta: torch.zeros(count, dtype=torch.int64) for beta in betas}
    for part in order.chunk(min(FOLDS, count)):
        outside = torch.ones(count, dtype=torch.bool)
        outside[part] = False
        candidates = Candidates(judged.take(outside.nonzero()[:, 0]), shares, betas)
        held = judged.take(part)
        for beta in betas:
            found[beta][part] = left_at(candidates.best(beta), held.answers)
    return found
