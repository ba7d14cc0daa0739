"""Layer norms that give way to re-parameterized batch norms in the course of a training (PRepBN).

Source: Guo et al., "SLAB", 2024, eq. 5, https://arxiv.org/abs/2405.11582: λ LN(x) + (1 - λ) RepBN(x), where λ falls from one to
zero in a straight line. What is left in the end has no layer norm, and folds into what reads it.
Differs: both have one gain and one shift, so that a network that was trained with layer norms begins as what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from wb.models.norms.rep import RepNorm
from wb.training.recipes.recipe import Recipe


def share(recipe: Recipe, step: int, steps: int) -> float:
    """The share of layer norms in step `step`, from 0, of `steps`: one at first, none from the share `layered` of them on."""
    until = recipe.layered * steps
    return max(0.0, 1 - step / until) if until else 0.0


@contextmanager
def layered(module: nn.Module, part: float) -> Iterator[None]:
    """Within it, so much of every re-parameterized norm is a layer norm, in training."""
    norms = [one for one in module.modules() if isinstance(one, RepNorm)]
    for norm in norms:
        norm.layered = part
    try:
        yield
    finally:
        for norm in norms:
            norm.layered = 0.0
