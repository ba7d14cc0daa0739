"""The moving average of weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from wb.training.recipes.schedule import decay


class Average:
    """The moving average of `values` by name: weights, and those statistics that are floating point.

    Source: Tarvainen and Valpola, "Mean teachers are better role models", 2017; the decay rises as in `schedule.decay`.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self._live = {name: value for name, value in values.items() if value.is_floating_point()}
        self.values = {name: value.detach().clone() for name, value in self._live.items()}

    def follow(self, step: int) -> None:
        """Takes in the values after step `step`, from 0."""
        live = [value.detach() for value in self._live.values()]
        torch._foreach_lerp_(list(self.values.values()), live, 1 - decay(step))

    def settle(self) -> None:
        """Puts the average in the place of the values."""
        with torch.no_grad():
            for name, value in self._live.items():
                value.copy_(self.values[name])
