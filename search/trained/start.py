"""`wb search --from MODEL --supernet`: the weights of a trained model as those that a supernet starts from.

Sub-networks are the leading entries of the largest one's axes, which is the model. So each axis is sorted, without changing what
the model computes: heads turned into bases in which the leading channels do most, heads and hidden units by what is lost without
them once the others make up for it, channels of the stream by what readers make of them.

Source: Cai et al., "Once-for-All", 2020, https://arxiv.org/abs/1908.09791, which sorts channels by importance before it trains
sub-networks; Prasad Reddy et al., "InstaTune", 2023, https://arxiv.org/abs/2308.15609, that trained weights are a start.
Limits: a network with fewer channels of queries and keys scales their products by its own size. Blocks are not sorted: smaller
depths are the leading ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wb.compress.nvit.bases import rebased
from wb.core.errors import BadOption, Unsupported
from wb.data import Dataset, Split
from wb.models.axes import Map, Select
from wb.models.layers.planes import as_tokens
from wb.models.model import Model, remap_model
from wb.models.walk import Sublayer
from wb.search.alternatives.observed import given, observed, rows_of
from wb.search.alternatives.option import unit_of
from wb.search.beginning.config import SearchConfig
from wb.spaces.base import NetworkSpace
from wb.spaces.columnar.around import PRESET, around, space_around
from wb.spaces.spaces import space_for
from wb.tasks.suited import check_fits
from wb.training.refit.streams import BATCH, Streams

IMAGES = 512  # training images that axes are sorted by


def started(options: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The options of a search whose supernet starts from `model`: its space is around it; `changes` narrow that.

    Raises:
        BadOption: a space or a preset is given too, or space `vit` has no such network.
    """
    for name in ("space", "preset"):
        if name in options:
            raise BadOption(
                f"--{name} says another space than --from with --supernet, which has its own; leave one out"
            )
    if model.architecture.input.usual_tokens is not None:
        raise Unsupported(
            "--supernet makes the space around a network that takes images, and this one takes texts; leave --supernet out, or "
            f"search space {'decoder' if model.architecture.causal else 'text'} without --from"
        )
    changes = around(model.architecture) | {**options.get("changes", {})}
    space_around(model.architecture, changes)  # raises
    return {**options, "space": "vit", "preset": PRESET, "changes": changes, "start": model.architecture}


def space_of(config: SearchConfig, data: Dataset) -> NetworkSpace:
    """The space of a search on `data`; if its supernet starts from a model, that around it.

    Raises:
        BadData: the images cannot be cut or halved as the space needs, or the model is for other data.
        BadOption: the space is not as it should be.
    """
    if config.start is None:
        return space_for(data, config.space, config.preset, config.changes)
    check_fits(config.start, data)
    start = config.start if config.start.head.labels else config.start.with_labels(data.classes)
    return space_around(start, config.changes)


def sorted_by(model: Model, train: Split, seed: int) -> Model:
    """As `sorted_axes`, by at most `IMAGES` of the training images, which are drawn from the seed."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:IMAGES]
    return sorted_axes(model, torch.from_numpy(train.pixels(order.numpy())), seed)


@torch.no_grad()
def sorted_axes(model: Model, images: Tensor, seed: int = 0) -> Model:
    """The same function with each axis sorted, what matters most first, by training images (n, channels, height, width)."""
    model = rebased(model, images.split(BATCH))
    streams, maps = Streams(model, images), dict[str, Map]()
    worth: dict[str, Tensor] = {}
    for number, at in enumerate(streams.walk()):
        axis, found = f"s{at.stage}.embed", _read(at, streams)
        worth[axis] = worth.get(axis, 0) + found / found.sum().clamp(min=1e-30)
        unit = unit_of(at)
        if unit is not None:
            rows = rows_of(model.architecture, at, streams, seed + number)
            writer = observed(at, at.operator, streams, rows, given(at, streams, rows))
            maps[f"{at.place}.{unit}"] = Select(torch.tensor(writer.order))
    maps |= {axis: Select(found.argsort(descending=True, stable=True)) for axis, found in worth.items()}
    return remap_model(model, maps)


def _read(at: Sublayer, streams: Streams) -> Tensor:
    """How much of what a sub-layer's readers make comes from each channel of the stream: (D)."""
    inputs = [as_tokens(at.read(state)).flatten(0, 1).double() for state in streams.states]
    squares = torch.stack([x.square().sum(0) for x in inputs]).sum(0)
    weights = [getattr(at.operator, name).flatten(0, -2).double() for name in at.operator.readers]
    return squares * sum((w.square().sum(0) for w in weights), torch.zeros_like(squares))
