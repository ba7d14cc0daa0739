"""The convolutional network that anyone would try first on photographs: the peer of networks that a search finds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNet(nn.Module):
    """Four 3x3 convolutions with BatchNorm and ReLU, the mean over places, and a linear map: 66 k parameters.

    Images (B, channels, height, width) in [0, 1] -> scores (B, classes).
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for after, stride in ((width, 1), (width, 2), (2 * width, 2), (2 * width, 1)):
            layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            before = after
        self.body, self.head = nn.Sequential(*layers), nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(F.adaptive_avg_pool2d(self.body(2 * images - 1), 1).flatten(1))
        return scores


def convnet(channels: int, classes: int, seed: int) -> ConvNet:
    """A fresh one, whose weights follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvNet(channels, classes)
