"""What a recipe does to a batch, in its order."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.data.batches import shift
from wb.training.augment.colour import jitter
from wb.training.augment.crop import crop, resized_crop
from wb.training.augment.erase import erase
from wb.training.augment.flip import flip
from wb.training.augment.mix import Mixed, cutmix, mixup
from wb.training.augment.trivial import trivial
from wb.training.recipes.recipe import Recipe


def augmented(
    images: Tensor, labels: Tensor, recipe: Recipe, generator: torch.Generator, *, flips: bool = True, side: int = 0
) -> tuple[Tensor, Mixed | None]:
    """`images` (B, C, H, W) in [0, 1] as one step of `recipe` sees them, and what was mixed into them, if anything.

    Ids of texts (B, N) stay as they are. Everything is drawn from `generator`.
    Without `flips` none are made. With `side` the shorter side is brought to it.
    """
    images = _moved(images, recipe, generator)
    if flips and recipe.flip != "off":
        images = flip(images, generator)
    if recipe.colour:
        images = jitter(images, recipe.colour, generator)
    if recipe.erase:
        images = erase(images, recipe.erase, generator)
    mixed = None
    if recipe.mixup or recipe.cutmix:
        coin = float(torch.rand((), generator=generator))
        if coin < recipe.cutmix:
            images, mixed = cutmix(images, labels, generator)
        elif coin < recipe.cutmix + recipe.mixup:
            images, mixed = mixup(images, labels, generator)
    if side and side != (shorter := min(images.shape[2:])):
        size = [round(side * length / shorter) for length in images.shape[2:]]
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images, mixed


def _moved(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    match recipe.augment:
        case "none":
            return images
        case "shift":
            return shift(images, generator)
        case "crop":
            return crop(images, recipe.pad, generator)
        case "resize":
            return resized_crop(images, recipe.least, generator)
        case "trivial":
            return trivial(crop(images, recipe.pad, generator), generator)
