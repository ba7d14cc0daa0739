"""Fitting one linear map of a network to its parents' outputs: by ridge regression, or by mean and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Outputs = Sequence[tuple[float, Tensor]]  # of each parent: its share, and its outputs (rows, outputs)
_FLAT = 1e-12


class Fit(Protocol):
    """Accumulates rows of inputs and outputs, then solves for a weight and a bias."""

    def add(self, inputs: Tensor, outputs: Outputs, offset: Tensor | float = 0.0) -> None:
        """Adds rows: inputs of the fused map (rows, inputs), outputs of the parents' maps, and an `offset` to their average."""
        ...

    def solve(self) -> tuple[Tensor, Tensor]:
        """The weight (outputs, inputs) and the bias (outputs), zeros where the map has none."""
        ...


class Ridge:
    """Ridge regression of the parents' average output Y on the inputs X, regularised towards `weight`.

    min over W, b of |X Wᵀ + b − Y|² + λ |W − weight|², where λ is `strength` times the mean diagonal of XᵀX (X centred).
    Without a bias b is zero, and nothing is centred.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, strength: float) -> None:
        self.weight, self.strength, self.biased = weight.double(), strength, bias is not None
        self.rounding = torch.finfo(weight.dtype).eps
        outputs, inputs = weight.shape
        self.rows = 0
        self.x, self.y = torch.zeros(inputs).double(), torch.zeros(outputs).double()
        self.xx, self.xy = torch.zeros(inputs, inputs).double(), torch.zeros(inputs, outputs).double()

    def add(self, inputs: Tensor, outputs: Outputs, offset: Tensor | float = 0.0) -> None:
        target = sum((share * y for share, y in outputs), start=torch.zeros(())) + offset
        if not self.rows:  # sums are centred on the first means; otherwise small variances would be lost to rounding
            self.origin = inputs.mean(0) * self.biased, target.mean(0) * self.biased
        inputs, target = inputs - self.origin[0], target - self.origin[1]
        self.rows += len(inputs)
        self.x += inputs.double().sum(0)
        self.y += target.double().sum(0)
        self.xx += inputs.T @ inputs
        self.xy += inputs.T @ target

    def solve(self) -> tuple[Tensor, Tensor]:
        gram, products = self.moments()
        penalty = self.penalty(gram)
        gram.diagonal().add_(penalty)
        products += penalty * self.weight.T
        weight = torch.cholesky_solve(products, torch.linalg.cholesky(gram)).T
        x, y = self.x / self.rows * self.biased + self.origin[0], self.y / self.rows * self.biased + self.origin[1]
        return weight, (y - weight @ x) * self.biased

    def moments(self) -> tuple[Tensor, Tensor]:
        """XᵀX (inputs, inputs) and XᵀY (inputs, outputs), centred where there is a bias."""
        x, y = self.x / self.rows * self.biased, self.y / self.rows * self.biased
        return self.xx - self.rows * torch.outer(x, x), self.xy - self.rows * torch.outer(x, y)

    def penalty(self, gram: Tensor) -> Tensor:
        """λ, for XᵀX."""
        return (self.strength * gram.diagonal().mean()).clamp(min=self.rounding * self.xx.trace() + _FLAT)

    def among(self, inputs: Tensor) -> Ridge:
        """The regression on some of the inputs, by index, from the same rows."""
        part = Ridge(self.weight[:, inputs], None, self.strength)
        part.rounding, part.biased, part.rows = self.rounding, self.biased, self.rows
        part.origin = self.origin[0][inputs], self.origin[1]
        part.x, part.y = self.x[inputs], self.y
        part.xx, part.xy = self.xx[inputs][:, inputs], self.xy[inputs]
        return part


class Moments:
    """Scales and shifts each output: its mean and standard deviation become the averages of the parents'.

    Without a bias outputs are scaled only.

    Source: Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight.double(), None if bias is None else bias.double()
        self.own = _Sums()
        self.theirs: dict[int, tuple[float, _Sums]] = {}

    def add(self, inputs: Tensor, outputs: Outputs, offset: Tensor | float = 0.0) -> None:
        self.own.add(F.linear(inputs, self.weight.to(inputs), None if self.bias is None else self.bias.to(inputs)))
        for i, (share, y) in enumerate(outputs):
            self.theirs.setdefault(i, (share, _Sums()))[1].add(y)

    def solve(self) -> tuple[Tensor, Tensor]:
        mean, deviation = self.own.moments()
        wanted = [(share, *sums.moments()) for share, sums in self.theirs.values()]
        target = sum((share * m for share, m, _ in wanted), start=torch.zeros_like(mean))
        spread = sum((share * d for share, _, d in wanted), start=torch.zeros_like(mean))
        ratio = torch.where(deviation > _FLAT, spread / deviation.clamp(min=_FLAT), 1.0)
        bias = torch.zeros_like(mean) if self.bias is None else (self.bias - mean) * ratio + target
        return self.weight * ratio[:, None], bias


class _Sums:
    """Running sums for the mean and standard deviation of each column."""

    def __init__(self) -> None:
        self.rows, self.total, self.squares = 0, torch.zeros(()).double(), torch.zeros(()).double()

    def add(self, y: Tensor) -> None:
        y = y.double()
        self.rows += len(y)
        self.total = self.total + y.sum(0)
        self.squares = self.squares + y.square().sum(0)

    def moments(self) -> tuple[Tensor, Tensor]:
        mean = self.total / self.rows
        return mean, (self.squares / self.rows - mean.square()).clamp(min=0).sqrt()


def write_fit(module: nn.Module, weights: Sequence[str], biases: Sequence[str | None], fit: Fit) -> None:
    """Writes what one fit found into the parameters that it was of."""
    weight, bias = fit.solve()
    start = 0
    for name, other in zip(weights, biases, strict=True):
        own = getattr(module, name)
        rows = slice(start, start := start + own.numel() // weight.shape[1])
        own.copy_(weight[rows].reshape(own.shape))
        if other is not None:
            beside = getattr(module, other)
            beside.copy_(bias[rows].reshape(beside.shape))


def total(parts: Outputs) -> Tensor:
    """The weighted sum of the parts."""
    return torch.stack([share * part for share, part in parts]).sum(0)
