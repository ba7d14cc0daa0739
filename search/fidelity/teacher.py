"""A teacher that remembers its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b

import torch
from torch import Tensor, nn

from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading, scaled
from wb.data import Dataset
from wb.search.supernet import Supernet
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.train import score

MOST = 256 << 20  # bytes of answers that are remembered


class Teacher:
    """Maps images (B, ...) to the outputs of a network, on the device of training.

    Batches follow from seed and epoch, so that all candidates see the same ones: each is answered once. Small networks learn
    in a fraction of the time that the largest takes to answer. Nothing else changes, as equal images have equal outputs.
    """

    def __init__(self, network: nn.Module | Callable[[Tensor], Tensor]) -> None:
        self._network = network.to(pick_device()).eval() if isinstance(network, nn.Module) else network
        self._known: dict[bytes, Tensor] = {}
        self._bytes = 0

    def __call__(self, images: Tensor) -> Tensor:
        """The outputs, without gradients."""
        key = blake2b(images.detach().cpu().contiguous().numpy().data, digest_size=16).digest()
        if key in self._known:
            return self._known[key]
        with torch.no_grad():
            answer: Tensor = self._network(images)
        size = answer.numel() * answer.element_size()
        if self._bytes + size <= MOST:
            self._known[key] = answer
            self._bytes += size
        return answer

    def forget(self) -> None:
        """Makes room for the answers to other batches."""
        self._known.clear()
        self._bytes = 0


def largest(supernet: Supernet) -> Teacher:
    """The supernet's largest network as a teacher."""
    return Teacher(partial(supernet.to(pick_device()).run, supernet.space.largest()))


def largest_quality(supernet: Supernet, data: Dataset) -> Reading:
    """What the supernet's largest network reaches on the validation split, its statistics found on the training split."""
    architecture = supernet.space.largest()
    network = supernet.extract(architecture, data.train).network()
    return score(network, data.validation, task_of(architecture), torch.device("cpu"))


def unreliable(supernet: Supernet, data: Dataset, reached: Sequence[float], passes: float, epochs: int) -> str | None:
    """Why the supernet's largest network is not worth learning from, if so.

    Candidates soon `reached` more alone. Where none was trained alone, the supernet saw all images fewer times, `passes`, than
    finalists will in their `epochs`: their errors would become those of their teacher (on Fashion-MNIST 10 epochs of a network
    of 3 MMAC gave 91.6 % alone, and 89.8 % with a teacher after two thirds of an epoch).
    """
    if not reached:
        if passes >= epochs:
            return None
        return (
            f"the supernet's largest network does not teach the finalists: it saw the images {passes:.2g} times, and they will "
            f"{epochs} times"
        )
    own, metric = largest_quality(supernet, data), METRICS[task_of(supernet.space.largest()).metric]
    best = max(reached) if metric.direction == "maximize" else min(reached)
    if metric.cost(own) <= metric.cost(own.model_copy(update={"value": best})):
        return None
    return (
        f"the supernet's largest network ({own.text()}) does not teach the finalists: alone, a candidate soon had "
        f"{scaled(best, own.unit)}"
    )
