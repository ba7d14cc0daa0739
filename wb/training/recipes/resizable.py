"""Whether a network takes images of other sizes, so that it can be trained on small ones first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wb.core.errors import BadOption
from wb.data import Dataset
from wb.training.recipes.recipe import Recipe
from wb.training.recipes.schedule import side


def check_sizes(network: Callable[[Tensor], Tensor], data: Dataset, recipe: Recipe, device: torch.device) -> None:
    """Runs `network`, in eval mode, on images of every size that `recipe` trains with.

    Raises:
        BadOption: it does not take one of them, or answers otherwise.
    """
    if not recipe.resolution or data.task != "classes":
        return
    height, width = data.height, data.width
    full = min(height, width)
    for small in sorted({side(recipe, epoch, full) for epoch in range(recipe.epochs)} - {full}):
        size = [round(small * length / full) for length in (height, width)]
        try:
            with torch.inference_mode():
                outputs = [
                    network(torch.zeros(2, data.channels, *one, device=device)).shape for one in (size, (height, width))
                ]
        except RuntimeError:
            outputs = []
        if len(set(outputs)) != 1:
            raise BadOption(
                f"the network does not take images of {size[0]}x{size[1]} beside those of {height}x{width}, as --resolution "
                "wants; leave it out, or choose a network of convolutions"
            )
