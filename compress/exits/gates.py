"""Which exit each example should leave by, and gates that learn it.

The loss of leaving early is a regret: how much less probable the right class is there than at the end, zero where it
is not less. Its price is `beta` times the latency, as a share of the whole network's. An example's ideal exit has the
least sum of the two; of several the deepest. Gates are linear in what an exit answers (`wb.models.exits.module.seen`)
and learn the sum itself: an example leaves by an exit with the probability that its gate says, if it has not left
before, and the mean of the sums that it may come to is minimised. Candidates are gates trained at every beta of the
`LADDER`, and those that always leave by one exit, or never; each beta takes the candidate with the least mean sum on
the examples. So with beta 0 nothing leaves, whatever the examples, and of two betas of the ladder the larger never
costs more on them.

Source: Ahmed et al., "ECO-M2F", 2024, https://arxiv.org/abs/2404.15244: utility of an exit, its loss less beta times
its depth; a gate trained for each beta while the network stays.
Differs: depth is measured latency; each exit has a gate, and gates minimise the expected sum instead of the distance
of two softmaxes; the regret is never negative.
Limits: an exit that is right where the end is wrong is not sought out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.exits.module import Gate, fixed, seen

LADDER = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
DECAY = 1e-3  # of the gates' weights, on standardised features
STEPS = 60
FOLDS = 5
_FLAT = 1e-6


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


def ideal(regrets: Tensor, shares: Sequence[float], beta: float) -> Tensor:
    """The number of the ideal exit of each example, from regrets (n, exits + 1) and latencies as shares of the last: (n)."""
    sums = regrets + beta * torch.tensor(shares, dtype=regrets.dtype)
    deepest = sums.flip(1).argmin(dim=1)  # the first of equal ones
    return sums.shape[1] - 1 - deepest


def left_at(gates: Sequence[Gate], answers: Sequence[Tensor]) -> Tensor:
    """The number of the exit that each example leaves by: (n)."""
    found = torch.full((len(answers[-1]),), len(gates))
    for k in reversed(range(len(gates))):
        found[gates[k].score(answers[k]) > 0] = k
    return found


class Candidates:
    """Gates trained on some examples, of which each beta takes the best."""

    def __init__(self, judged: Judged, shares: Sequence[float], betas: Sequence[float] = LADDER) -> None:
        self.shares, self.regrets = torch.tensor(shares), judged.regrets()
        count, classes = len(judged.answers) - 1, judged.answers[-1].shape[1]
        every = [[fixed(classes, leave=k == number) for k in range(count)] for number in reversed(range(count + 1))]
        every += [self._trained(judged, beta) for beta in sorted({*LADDER, *betas}) if beta > 0]
        self.gates = every
        self.left = [left_at(gates, judged.answers) for gates in every]

    def best(self, beta: float) -> list[Gate]:
        """The candidate with the least mean regret plus price; of equal ones the first: never to leave comes first."""
        return min(zip(self.gates, self.left, strict=True), key=lambda one: self._sum(one[1], beta))[0]

    def _sum(self, left: Tensor, beta: float) -> float:
        regret = self.regrets.double().gather(1, left[:, None])[:, 0]
        return float(regret.mean()) + beta * float(self.shares[left].double().mean())

    def _trained(self, judged: Judged, beta: float) -> list[Gate]:
        """Gates for one beta, trained together."""
        read = [seen(answer).double() for answer in judged.answers[:-1]]
        moments = [(x.mean(0), x.std(0, correction=0) + _FLAT) for x in read]
        read = [(x - mean) / deviation for x, (mean, deviation) in zip(read, moments, strict=True)]
        sums = self.regrets.double() + beta * self.shares.double()
        weights = [torch.zeros(x.shape[1], dtype=torch.float64, requires_grad=True) for x in read]
        biases = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in read]
        optimizer = torch.optim.LBFGS([*weights, *biases], max_iter=STEPS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            staying, expected = torch.ones(len(sums), dtype=torch.float64), torch.zeros(len(sums), dtype=torch.float64)
            for k, (x, weight, bias) in enumerate(zip(read, weights, biases, strict=True)):
                leaving = torch.sigmoid(x @ weight + bias)
                expected = expected + staying * leaving * sums[:, k]
                staying = staying * (1 - leaving)
            decay = torch.stack([weight.square().sum() for weight in weights]).sum()
            loss = (expected + staying * sums[:, -1]).mean() + DECAY * decay
            loss.backward()
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        found = []
        for weight, bias, (mean, deviation) in zip(weights, biases, moments, strict=True):
            plain = weight.detach() / deviation
            found.append(Gate(plain.float(), (bias.detach() - plain @ mean).float()))
        return found


def crossed(judged: Judged, shares: Sequence[float], betas: Sequence[float], seed: int) -> Mapping[float, Tensor]:
    """By beta, the exit (n) that each example leaves by with gates that were trained on other examples, in `FOLDS` parts."""
    count = len(judged.labels)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    found = {beta: torch.zeros(count, dtype=torch.int64) for beta in betas}
    for part in order.chunk(min(FOLDS, count)):
        inside = torch.zeros(count, dtype=torch.bool)
        inside[part] = True
        candidates = Candidates(judged.take((~inside).nonzero()[:, 0]), shares, betas)
        held = judged.take(part)
        for beta in betas:
            found[beta][part] = left_at(candidates.best(beta), held.answers)
    return found
