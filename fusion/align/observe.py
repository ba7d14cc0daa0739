"""Activations of two networks on the same images, compared axis by axis of the reference in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from wb.fusion.align.similarity import Statistics
from wb.fusion.match.placed import Placed, runs
from wb.models.axes import nested
from wb.models.layers.planes import as_tokens
from wb.models.model import Model
from wb.models.walk import Sublayer
from wb.training.refit.trace import network_of, whole

ROWS = 16_384  # at each place at most so many tokens are compared


def observe(source: Placed, reference: Model, images: Tensor, seed: int = 0) -> Statistics:
    """Activations of both networks on `images` (n, channels, height, width), or texts, compared on at most `ROWS` tokens.

    Streams are compared before every sub-layer and at the end of each stage, with every token scaled to the same size. Other
    axes are compared on the outputs of the weights that read the stream.
    """
    found = Statistics()
    a, b = network_of(source.model), network_of(reference)
    starts, groups = runs(source, reference)
    within = nested(source.axes, source.dims)
    generator = torch.Generator().manual_seed(seed)
    for part in whole(images, b):
        x, y = a.begin(part), b.begin(part)
        for stage in range(len(b.stages)):
            x, y = a.enter(x, stage), b.enter(y, stage)
            rows = _drawn(as_tokens(y.stream), len(part) / len(images), generator)
            for mine in starts[stage]:
                x = a.at(mine)(x)
            for theirs in b.walk(stage):
                twin = source.sublayers.get(theirs.name)
                if twin is not None:
                    found.add(f"s{stage}.embed", _scaled(x.stream, rows), _scaled(y.stream, rows))
                    own = a.at(twin.name)
                    outputs = (own.operator.reader_outputs(own.read(x)), theirs.operator.reader_outputs(theirs.read(y)))
                    drawn = [
                        {name: as_tokens(y).flatten(0, 1)[rows] for name, y in values.items()} for values in outputs
                    ]
                    _compare(found, source, theirs, within, drawn)
                for mine in groups[theirs.name]:
                    x = a.at(mine)(x)
                y = theirs(y)
            found.add(f"s{stage}.embed", _scaled(x.stream, rows), _scaled(y.stream, rows))
    return found


def _compare(
    found: Statistics, source: Placed, theirs: Sublayer, within: dict[str, str], outputs: list[dict[str, Tensor]]
) -> None:
    """Adds the outputs (rows, features) of one sub-layer's readers in both networks."""
    for name in theirs.operator.readers:
        a, b = (part[name] for part in outputs)
        on = source.axes[f"{theirs.prefix}.{name}"][:-1]
        axes = [axis.name for axis in on if axis is not None]
        if len(axes) == 1:
            shapes = source.weight(f"{theirs.prefix}.{name}").shape[:-1], getattr(theirs.operator, name).shape[:-1]
            place = next(dim for dim, axis in enumerate(on) if axis is not None)
            # What a unit has several of counts as so many outputs more.
            a, b = (
                y.unflatten(1, n).movedim(1 + place, -1).flatten(0, -2) for y, n in zip((a, b), shapes, strict=True)
            )
            found.add(axes[0], a, b)
        elif len(axes) == 2 and within.get(axes[1]) == axes[0]:
            heads = source.weight(f"{theirs.prefix}.{name}").shape[0], getattr(theirs.operator, name).shape[0]
            found.add_heads(axes[1], a.unflatten(1, (heads[0], -1)), b.unflatten(1, (heads[1], -1)))


def _drawn(tokens: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The random tokens of a batch (B, N, D) that are compared: the batch's share of `ROWS`."""
    total = tokens.shape[0] * tokens.shape[1]
    return torch.randperm(total, generator=generator)[: max(1, round(ROWS * share))]


def _scaled(x: Tensor, rows: Tensor) -> Tensor:
    """The chosen tokens of a stream, each scaled to root mean square one: (rows, D)."""
    chosen = as_tokens(x).flatten(0, 1)[rows]
    return chosen / chosen.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-12)
