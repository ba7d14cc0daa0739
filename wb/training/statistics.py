"""Statistics of batch norms, found from training images once the weights are there.

Source: Wang et al., "AttentiveNAS", 2021: a sub-network's statistics are found anew, as the mean over some batches.
Differs: `IMAGES` images instead of 64 batches of 32; the variance is the mean of the batches' variances plus the variance of
their means, which is the variance over all images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from wb.data import Split
from wb.data.batches import batches
from wb.models.layers.convolution import BatchNormed, Moments
from wb.models.model import Model
from wb.models.network import skeleton

IMAGES = 512
BATCH = 128
SEED = 0  # the same images for every network, so that networks compare


def find_statistics(network: nn.Module, split: Split) -> None:
    """Gives every batch norm of ours in `network` the mean and variance of what it sees of `IMAGES` training images.

    Does nothing where there is none. The network's mode is as before.
    """
    find_from(network, shown(split, next(network.parameters()).device))


def find_from(network: nn.Module, images: Iterable[Tensor]) -> None:
    """The same from batches of images (B, channels, height, width)."""
    parts = [part for part in network.modules() if isinstance(part, BatchNormed)]
    if not parts:
        return
    with found_anew(parts), torch.no_grad():
        for batch in images:
            network(batch)


@contextmanager
def found_anew(parts: Collection[BatchNormed], only: Collection[str] | None = None) -> Iterator[None]:
    """Batch norms of `parts` use the statistics of batches meanwhile, and take those of all of them in the end.

    `only` names the norms that take them. A norm that is not run keeps what it has.
    """
    before = {part: part.training for part in parts}
    for part in parts:
        part.watched = {}
        part.train()
    yield
    with torch.no_grad():
        for part, training in before.items():
            for norm, moments in (part.watched or {}).items():
                if only is None or norm in only:
                    mean, variance = _over_batches(moments)
                    part.statistic(norm, "mean").copy_(mean)
                    part.statistic(norm, "variance").copy_(variance)
            part.watched = None
            part.train(training)


def with_statistics(model: Model, split: Split) -> Model:
    """`model` with the statistics of its batch norms found anew; itself if it has none."""
    if not skeleton(model.architecture).statistics():
        return model
    network = model.network()
    find_statistics(network, split)
    found = {name: network.get_parameter(name).detach().clone() for name in network.statistics()}
    return replace(model, weights={**model.weights, **found})


def settled(model: Model, images: Iterable[Tensor]) -> Model:
    """The same function, its batch norms with the statistics of what they see of `images`, batches in [0, 1].

    So that finding them anew changes nothing but the noise of batches, also in a model that was trained on other images, or
    elsewhere. Itself if it has none.
    """
    if not skeleton(model.architecture).statistics():
        return model
    network = model.network()
    parts = [part for part in network.modules() if isinstance(part, BatchNormed)]
    for part in parts:
        part.watched = {}
    with torch.no_grad():
        for batch in images:
            network(batch)
        for part in parts:
            for norm, moments in (part.watched or {}).items():
                part.restate(norm, *_over_batches(moments))
    return replace(model, weights={name: p.detach() for name, p in network.named_parameters()})


def shown(split: Split, device: torch.device | str = "cpu") -> Iterator[Tensor]:
    """The batches of training images that every network is shown."""
    seen = 0
    for images, _ in batches(split, BATCH, shuffle=True, generator=torch.Generator().manual_seed(SEED)):
        yield images.to(device)
        seen += len(images)
        if seen >= IMAGES:
            return


def _over_batches(moments: Moments) -> tuple[Tensor, Tensor]:
    mean = moments.mean / moments.batches
    spread = (moments.square / moments.batches - mean.square()).clamp(min=0)
    return mean, moments.variance / moments.batches + spread
