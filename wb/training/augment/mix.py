"""Batches of mixed images: mixup and CutMix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ALPHA = 0.2  # of mixup's Beta distribution


class Mixed(NamedTuple):
    """What was mixed into a batch: the labels (B,) of the other images, and the share of each image that is still its own."""

    labels: Tensor
    share: float

    def to(self, device: torch.device) -> Mixed:
        """The same on another device."""
        return self._replace(labels=self.labels.to(device))


def mixup(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixed]:
    """Averages of pairs of `images` (B, C, H, W).

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2017. Differs: one share for a batch.
    """
    # torch's own distributions take no generator
    share = float(np.random.default_rng(int(torch.randint(2**31, (), generator=generator))).beta(_ALPHA, _ALPHA))
    order = torch.randperm(len(images), generator=generator)
    return share * images + (1 - share) * images[order], Mixed(labels[order], share)


def cutmix(images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixed]:
    """Each of `images` (B, C, H, W) with a rectangle of another one, at the same place; its share is that of the pixels.

    Source: Yun et al., "CutMix", 2019, with alpha 1. Differs: one rectangle for a batch.
    """
    height, width = images.shape[2:]
    cut, down, right = torch.rand(3, generator=generator).tolist()
    order = torch.randperm(len(images), generator=generator)
    tall, wide = round(height * cut**0.5), round(width * cut**0.5)
    top, left = round(down * height - tall / 2), round(right * width - wide / 2)  # its centre may lie anywhere
    rows, columns = slice(max(0, top), max(0, top + tall)), slice(max(0, left), max(0, left + wide))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    taken = len(range(height)[rows]) * len(range(width)[columns])
    return mixed, Mixed(labels[order], 1 - taken / (height * width))
