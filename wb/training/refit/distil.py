"""Local distillation: an alternative is trained for a few steps to give what its sub-layer gave.

Source: LANA (Molchanov et al., 2022, https://arxiv.org/abs/2107.10624) and Puzzle (Bercovich et al., 2024,
https://arxiv.org/abs/2411.19146), which make their alternatives so.
Differs: it begins with the closed form, and what is worse on images held out is dropped.
Limits: all weights of a distilled alternative are kept, not only its writer; the library is several times as large.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from wb.models.layers.operator import OperatorModule

PEAK = 1e-3  # of the learning rate, which falls as a cosine
IMAGES = 48  # in a step
HELD_OUT = 8  # one in so many images


class Pairs(NamedTuple):
    """Inputs of a sub-layer's operator and what it gives, by image."""

    inputs: Tensor
    targets: Tensor

    @property
    def held(self) -> Pairs:
        """Those that are held out."""
        return Pairs(*(x[-self._count :] for x in self))

    @property
    def fit(self) -> Pairs:
        """The others."""
        return Pairs(*(x[: -self._count] for x in self))

    @property
    def _count(self) -> int:
        return max(1, len(self.inputs) // HELD_OUT)


def distilled(operator: OperatorModule, pairs: Pairs, steps: int, seed: int) -> float:
    """Trains `operator` in place; gives how much of its error on held-out images is left, 1 where it stays as it was."""
    trained = [p for name, p in operator.named_parameters() if name not in operator.constants]
    before = {name: p.detach().clone() for name, p in operator.named_parameters()}
    held, fit = pairs.held, pairs.fit
    first = missed(operator, held)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(trained, lr=PEAK)
    variance = pairs.targets.var()
    for step in range(steps):
        some = torch.randint(len(fit.inputs), (IMAGES,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.enable_grad():
            for p in trained:
                p.requires_grad_(True)
            loss = (operator(fit.inputs[some]) - fit.targets[some]).square().mean() / variance
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        optimizer.step()
    for p in trained:
        p.requires_grad_(False)
    last = missed(operator, held)
    if last < first:
        return last / first
    operator.load_state_dict(before)
    return 1.0


@torch.no_grad()
def missed(operator: OperatorModule, pairs: Pairs) -> float:
    """The mean square of the difference; infinite where it is not finite."""
    found = float((operator(pairs.inputs) - pairs.targets).square().mean())
    return found if math.isfinite(found) else math.inf
