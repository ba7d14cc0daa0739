"""What changes in the course of a training: learning rate, Adam's first moment, the decay of the average, the resolution.

All of it follows from the number of the step, so that a resumed training needs no state for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from wb.training.recipes.recipe import Recipe

BETA = 0.9  # Adam's first moment
_BETAS = (0.85, 0.95)  # its bounds in one cycle, lowest where the learning rate is highest
_START, _END = 25.0, 1e4  # of one cycle: it begins at a 25th of the peak and ends at a 10,000th of that
_SIZES = ((0.5, 0.6), (0.8, 0.8))  # up to this share of the epochs, this share of the side
_EVEN = 4  # sides are multiples of it, so that networks can halve them


class Rates(NamedTuple):
    """Learning rate and first moment of Adam in one step."""

    learning_rate: float
    beta: float


def rates(recipe: Recipe, step: int, steps: int) -> Rates:
    """The rates of step `step`, from 0, of `steps`.

    Source: Smith and Topin, "Super-Convergence", 2018, as `torch.optim.lr_scheduler.OneCycleLR` has it; Loshchilov and Hutter,
    "SGDR", 2017, for the cosine.
    """
    peak = recipe.learning_rate
    if recipe.schedule == "cosine":
        rising = recipe.warmup * steps
        if step < rising:
            return Rates(peak * (step + 1) / math.ceil(rising), BETA)
        share = (step - rising) / (steps - 1 - rising or 1.0)
        return Rates(_between(peak, recipe.floor * peak, share), BETA)
    top = recipe.warmup * steps - 1
    low, high = _BETAS
    if step <= top:
        share = step / top if top else 1.0
        return Rates(_between(peak / _START, peak, share), _between(high, low, share))
    share = (step - top) / (steps - 1 - top or 1.0)
    return Rates(_between(peak, peak / _START / _END, share), _between(low, high, share))


def decay(step: int) -> float:
    """How much of the average of the weights stays at step `step`, from 0: it follows quickly at first."""
    return min(0.999, (1 + step) / (10 + step))


def side(recipe: Recipe, epoch: int, full: int) -> int:
    """The side to which images of side `full` are brought in an epoch, from 0.

    Source: Tan and Le, "EfficientNetV2", 2021, with fewer steps.
    """
    if not recipe.resolution:
        return full
    share = next((size for until, size in _SIZES if epoch < until * recipe.epochs), 1.0)
    return full if share == 1.0 else max(_EVEN, round(share * full / _EVEN) * _EVEN)


def pieces(recipe: Recipe, epoch: int) -> int:
    """Into how many a passage of text is cut in an epoch, from 0: shorter ones take less time, and are as many tokens a step.

    Source: Press et al., "Shortformer: Better Language Modeling using Shorter Inputs", 2021, section 3.
    """
    return 2 if recipe.resolution and 2 * epoch < recipe.epochs - 1 else 1


def _between(first: float, last: float, share: float) -> float:
    """From `first` to `last` by half a cosine, as `share` goes from 0 to 1."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))
