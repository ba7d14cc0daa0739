"""Local distillation: an alternative is trained for a few steps to give what its sub-layer gave.

Source: LANA (Molchanov et al., 2022, https://arxiv.org/abs/2107.10624) and Puzzle (Bercovich et al., 2024,
https://arxiv.org/abs/2411.19146), which make their alternatives so.
Differs: it begins with the closed form, and what is worse on images held out is dropped.
Limits: all weights of a distilled alternative are kept, not only its writer; the library is several times as large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from wb.models.layers.operator import Context, OperatorModule
from wb.models.walk import State, Sublayer

PEAK = 1e-3  # of the learning rate, which falls as a cosine
IMAGES = 48  # in a step
HELD_OUT = 8  # one in so many images
_ALL = slice(None)


class Pairs(NamedTuple):
    """Inputs of a sub-layer's operator and what it gives, by image, text or passage.

    `mask` (B, N) is true at the tokens that count, None if all do; `visible` (N, N) where a token may look, None: everywhere.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None = None
    visible: Tensor | None = None

    @classmethod
    @torch.no_grad()
    def of(cls, at: Sublayer, states: Sequence[State], *, causal: bool) -> Pairs:
        """Those of a sub-layer in these states, which are of batches of different lengths where they are of texts."""
        inputs = [at.read(state) for state in states]
        found = [at.operator(part, state.context) for part, state in zip(inputs, states, strict=True)]
        masks = [state.context.mask for state in states]
        if masks[0] is None:
            return cls(torch.cat(inputs), torch.cat(found))
        longest = max(x.shape[1] for x in inputs)
        mask = torch.cat([_longer(one, longest) for one in masks if one is not None])
        given, targets = (torch.cat([_longer(x, longest) for x in parts]) for parts in (inputs, found))
        order = torch.arange(longest)
        return cls(given, targets, mask, order[None, :] <= order[:, None] if causal else None)

    def given(self, operator: OperatorModule, index: Tensor | slice = _ALL) -> Tensor:
        """What another operator gives for some of the inputs."""
        if self.mask is None:
            return cast(Tensor, operator(self.inputs[index]))
        mask = self.mask[index]
        visible = mask[:, None, None, :] if self.visible is None else mask[:, None, None, :] & self.visible
        return cast(Tensor, operator(self.inputs[index], Context(mask, visible)))

    def error(self, given: Tensor, index: Tensor | slice = _ALL) -> Tensor:
        """The mean square of the difference, over the tokens that count."""
        apart = (given - self.targets[index]).square()
        return apart.mean() if self.mask is None else apart[self.mask[index]].mean()

    @property
    def variance(self) -> Tensor:
        """That of the targets, of the tokens that count."""
        return self.targets.var() if self.mask is None else self.targets[self.mask].var()

    @property
    def held(self) -> Pairs:
        """Those that are held out."""
        return self._part(slice(-self._count, None))

    @property
    def fit(self) -> Pairs:
        """The others."""
        return self._part(slice(-self._count))

    def _part(self, index: slice) -> Pairs:
        mask = None if self.mask is None else self.mask[index]
        return Pairs(self.inputs[index], self.targets[index], mask, self.visible)

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
    variance = pairs.variance
    for step in range(steps):
        some = torch.randint(len(fit.inputs), (IMAGES,), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.enable_grad():
            for p in trained:
                p.requires_grad_(True)
            loss = fit.error(fit.given(operator, some), some) / variance
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
    found = float(pairs.error(pairs.given(operator)))
    return found if math.isfinite(found) else math.inf


def _longer(x: Tensor, longest: int) -> Tensor:
    """(B, N, ...), with zeros behind its tokens up to `longest`."""
    if x.shape[1] == longest:
        return x
    return torch.cat([x, x.new_zeros(len(x), longest - x.shape[1], *x.shape[2:])], dim=1)
