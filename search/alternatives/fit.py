"""The closed form of alternatives: which units stay, and what then writes to the stream.

With the moments G = hᵀh + λI of what the writer reads and C = hᵀy of that with what the sub-layer gives, the best writer from a
set J of units is W_J = G_JJ⁻¹ C_J. Units go one after the other, each time the one without which the others make up for most: of
W = G⁻¹C the one with the least ‖W_j‖²/(G⁻¹)_jj. Heads are tried in all combinations while these are few.

Source: Hassibi and Stork, "Optimal Brain Surgeon", 1993; for structures Kurtic et al., "ZipLM", 2023,
https://arxiv.org/abs/2302.04089.
Differs: G is that of the writer's inputs and the target what the sub-layer gives, so that no gradient is needed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from wb.training.refit.fits import Ridge

STRENGTH = 1e-3  # of the ridge, relative to the mean variance of what a writer reads
AT_ONCE = 128  # of so many units one goes at a time; of more, as many as there are times so many
COMBINED = 8  # heads that are tried in all combinations; of more, one after the other goes


class Writer:
    """The inputs and targets of one sub-layer's writer (outputs, inputs), in `groups` of inputs that stay or go together."""

    def __init__(self, weight: Tensor, bias: Tensor | None, groups: int) -> None:
        self.ridge = Ridge(weight, bias, STRENGTH)
        self.size, self.groups = weight.shape[1] // groups, groups
        self.power = 0.0

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Adds rows of inputs (rows, inputs) and of what is to be written (rows, outputs)."""
        self.ridge.add(inputs, [(1.0, targets)])
        self.power += float((targets - self.ridge.origin[1]).double().square().sum())

    def columns(self, kept: Sequence[int], leading: int | None = None) -> Tensor:
        """The inputs of groups, of each the `leading` ones."""
        first = torch.tensor(kept)[:, None] * self.size
        return (first + torch.arange(leading or self.size)).flatten()

    def fitted(self, columns: Tensor) -> tuple[Tensor, Tensor, float]:
        """The writer (outputs, columns) and bias from those inputs, and the share of the variance that they do not explain."""
        among = self.ridge.among(columns)
        weight, bias = among.solve()
        gram, products = among.moments()
        missed = self._variance - 2 * float((weight.T * products).sum()) + float(((weight @ gram) * weight).sum())
        return weight, bias, max(0.0, missed) / max(self._variance, torch.finfo(torch.float64).tiny)

    @cached_property
    def order(self) -> list[int]:
        """All groups, those that go last first: the leading ones of any number are those that stay."""
        inverse, weight, left = self._inverse, self._whole, list(range(self.groups))
        gone: list[int] = []
        while len(left) > 1:
            worth = self._worth(inverse, weight, len(left))
            few = worth.argsort(stable=True)[: max(1, len(left) // AT_ONCE)]
            go = (few[:, None] * self.size + torch.arange(self.size)).flatten()
            factor = torch.linalg.solve(inverse[go][:, go], inverse[go])  # (inputs that go, inputs)
            stay = torch.ones(len(inverse), dtype=torch.bool)
            stay[go] = False
            weight = weight[stay] - factor[:, stay].T @ weight[go]
            inverse = inverse[stay][:, stay] - factor[:, stay].T @ inverse[go][:, stay]
            gone += [left[i] for i in few.tolist()]
            left = [group for i, group in enumerate(left) if i not in set(few.tolist())]
        return [*left, *reversed(gone)]

    def best(self, count: int, leading: int | None = None) -> tuple[int, ...]:
        """The `count` groups that, with their `leading` inputs, explain most."""
        if self.groups > COMBINED or count == self.groups:
            return tuple(sorted(self.order[:count]))

        def missed(kept: tuple[int, ...]) -> float:
            return self.fitted(self.columns(kept, leading))[2]

        return min(itertools.combinations(range(self.groups), count), key=missed)

    def _worth(self, inverse: Tensor, weight: Tensor, count: int) -> Tensor:
        """What is lost without each group."""
        if self.size == 1:
            return weight.square().sum(1) / inverse.diagonal()
        blocks = inverse.unflatten(0, (count, -1)).unflatten(2, (count, -1)).diagonal(dim1=0, dim2=2).movedim(2, 0)
        parts = weight.unflatten(0, (count, -1))
        worth: Tensor = (parts * torch.linalg.solve(blocks, parts)).sum((1, 2))
        return worth

    @cached_property
    def _variance(self) -> float:
        mean = self.ridge.y / self.ridge.rows
        return self.power - self.ridge.rows * float(mean.square().sum()) * self.ridge.biased

    @cached_property
    def _inverse(self) -> Tensor:
        gram, _ = self.ridge.moments()
        gram = gram.clone()
        gram.diagonal().add_(self.ridge.penalty(gram))
        return torch.cholesky_inverse(torch.linalg.cholesky(gram))

    @cached_property
    def _whole(self) -> Tensor:
        gram, products = self.ridge.moments()
        return self._inverse @ (products + self.ridge.penalty(gram) * self.ridge.weight.T)
