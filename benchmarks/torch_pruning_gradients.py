"""Gradients that torch-pruning's criteria expect in `grad`, computed on a fixed set of training images."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor
from torch.nn import functional as F
from torch_pruning_vit import PlainViT

from wb.data import Dataset

IMAGES, HESSIAN_IMAGES, MINI_BATCH, SMOOTHING = 640, 320, 16, 0.1


class FixedHessian(tp.importance.GroupHessianImportance):  # type: ignore[misc]
    """The Hessian criterion with the mean of all samples' squared gradients.

    As shipped, `accumulate_grad` looks for a name in a dictionary keyed by parameter, never finds it, and keeps the last
    sample only.
    """

    def accumulate_grad(self, model: torch.nn.Module) -> None:
        for p in model.parameters():
            if p.grad is not None:
                self._accu_grad[p] = self._accu_grad.get(p, 0) + p.grad.detach() ** 2
                self._counter[p] = self._counter.get(p, 0) + 1


@dataclass(frozen=True)
class Calibration:
    """Images (n, channels, height, width) and labels (n,) that gradients are taken on."""

    images: Tensor
    labels: Tensor


def calibration(data: Dataset, seed: int, images: int = IMAGES) -> Calibration:
    """The first images of a shuffled training split."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:images].numpy()
    return Calibration(torch.from_numpy(data.train.pixels(order)), torch.from_numpy(data.train.labels[order]))


def expected_gradients(plain: PlainViT, importance: Any, calibration: Calibration) -> dict[str, Tensor]:
    """The gradients that the criterion expects in `grad`: of the mean loss, squared ones of single images, or none."""
    if isinstance(importance, tp.importance.GroupHessianImportance):
        return _squares(plain, importance, calibration)
    if not isinstance(importance, tp.importance.GroupTaylorImportance):
        return {}
    network = copy.deepcopy(plain)
    count = len(calibration.labels)
    for images, labels in zip(calibration.images.split(MINI_BATCH), calibration.labels.split(MINI_BATCH), strict=True):
        loss = F.cross_entropy(network(images), labels, label_smoothing=SMOOTHING, reduction="sum")
        (loss / count).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def _squares(plain: PlainViT, importance: Any, calibration: Calibration) -> dict[str, Tensor]:
    network = copy.deepcopy(plain)
    for image, label in zip(
        calibration.images[:HESSIAN_IMAGES].split(1), calibration.labels[:HESSIAN_IMAGES].split(1), strict=True
    ):
        network.zero_grad()
        F.cross_entropy(network(image), label, label_smoothing=SMOOTHING).backward()
        importance.accumulate_grad(network)
    names = {p: name for name, p in network.named_parameters()}
    return {names[p]: square / importance._counter[p] for p, square in importance._accu_grad.items()}
