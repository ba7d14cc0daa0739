"""The residual streams of two networks on the same images, behind every sub-layer.

Both walk side by side. A sub-layer that only one of them has is the identity of the other. Where the numbers of tokens differ,
the means over tokens are compared; where one looks at mirror images too, those are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wb.core.commands.progress import Progress
from wb.jobs.diff.record import LayerRow
from wb.models.layers.planes import as_tokens
from wb.models.network import Network
from wb.models.similarity import cka
from wb.models.walk import State, Sublayer

ROWS = 1024  # tokens, or images, on which CKA is computed, at most
AT_ONCE = 64  # images
NOT_FINITE = "where there is neither distance nor CKA, values are no finite numbers"
_ORDER = {"mixer": 0, "ffn": 1}

Where = Literal["both", "a", "b"]
Masks = tuple[Tensor | None, Tensor | None]


@torch.no_grad()
def compare_layers(
    a: Network, b: Network, images: Tensor, progress: Progress, seed: int = 0
) -> tuple[tuple[LayerRow, ...], Tensor, Tensor]:
    """A row for each place in order of execution, and the logits of both; `images` are (n, channels, height, width)."""
    places: dict[str, Place] = {}
    logits: list[tuple[Tensor, Tensor]] = []
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(images), AT_ONCE):
        progress("comparing outputs", start, len(images))
        part = images[start : start + AT_ONCE]
        walk = _side_by_side(a, b, part)
        for name, where, x, y in walk:
            if name == "logits":
                logits.append((x.tokens, y.tokens))
            else:
                place = places.setdefault(name, Place(name, where, (x.tokens.shape[-1], y.tokens.shape[-1])))
                count = max(1, round(ROWS * len(part) / len(images)))
                place.add(x.tokens, y.tokens, count, generator, (x.mask, y.mask))
    first, second = (torch.cat(side) for side in zip(*logits, strict=True))
    return tuple(place.row() for place in places.values()), first, second


@dataclass
class Place:
    """Sums over the tokens of all images at one place of two networks, and a sample of them."""

    name: str
    where: Where
    widths: tuple[int, int]
    apart: float = 0.0
    size: float = 0.0
    pooled: bool = False
    rows: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def add(self, x: Tensor, y: Tensor, count: int, generator: torch.Generator, masks: Masks = (None, None)) -> None:
        """Adds the tokens (B, N, D) of both, those that count by their masks (B, N)."""
        if x.shape[1] != y.shape[1]:
            self.pooled = True
            x, y = (_mean(one, mask) for one, mask in zip((x, y), masks, strict=True))
        elif masks[0] is not None and masks[1] is not None:
            both = masks[0] & masks[1]
            x, y = x[both], y[both]
        else:
            x, y = x.flatten(0, 1), y.flatten(0, 1)
        if x.shape == y.shape:
            self.apart += float((x.double() - y.double()).square().sum())
            self.size += float(x.double().square().sum())
        drawn = torch.randperm(len(x), generator=generator)[:count]
        self.rows.append((x[drawn].clone(), y[drawn].clone()))

    def row(self) -> LayerRow:
        """The distances over all that was added."""
        x, y = (torch.cat(side) for side in zip(*self.rows, strict=True))
        likeness = 1.0 if torch.equal(x, y) else cka(x, y)
        finite = math.isfinite(self.apart + self.size + likeness)
        known = finite and self.widths[0] == self.widths[1] and self.size > 0
        pooled = "means over tokens, whose numbers differ" if self.pooled else None
        return LayerRow(
            name=self.name,
            where=self.where,
            widths=self.widths,
            distance=(self.apart / self.size) ** 0.5 if known else None,
            cka=likeness if finite else None,
            note=pooled if finite else NOT_FINITE,
        )


class Stream(NamedTuple):
    """The tokens (B, N, D) of a network at one place, and which of them count (B, N), None for all."""

    tokens: Tensor
    mask: Tensor | None = None


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of the tokens that count: (B, N, D) -> (B, D)."""
    if mask is None:
        return x.mean(dim=1)
    weights = mask.to(x)[:, :, None]
    return (x * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _side_by_side(a: Network, b: Network, images: Tensor) -> Iterator[tuple[str, Where, Stream, Stream]]:
    """Name, owner and both streams (B, N, D) of each place; the logits last."""
    x, y = a.begin(images), b.begin(images)
    yield "tokens", "both", *_streams(a, x, b, y)
    for stage in range(max(len(a.stages), len(b.stages))):
        there = [stage < len(network.stages) for network in (a, b)]
        if stage:
            x, y = (a.enter(x, stage) if there[0] else x), (b.enter(y, stage) if there[1] else y)
            yield f"s{stage}.merge", _owner(there), *_streams(a, x, b, y)
        own, other = (
            {at.name: at for at in network.walk(stage)} if t else {} for network, t in zip((a, b), there, strict=True)
        )
        for name in sorted({*own, *other}, key=_place):
            x, y = _stepped(x, own.get(name)), _stepped(y, other.get(name))
            yield name, _owner([name in own, name in other]), *_streams(a, x, b, y)
    yield "logits", "both", Stream(a.end(x)), Stream(b.end(y))


def _stepped(state: State, at: Sublayer | None) -> State:
    return state if at is None else at(state)


def _owner(there: Sequence[bool]) -> Where:
    return "both" if all(there) else "a" if there[0] else "b"


def _place(name: str) -> tuple[int, int]:
    """`s0.b3.mixer` in order of execution within its stage."""
    _, block, kind = name.split(".")
    return int(block[1:]), _ORDER[kind]


def _streams(a: Network, x: State, b: Network, y: State) -> tuple[Stream, Stream]:
    """The tokens (B, N, D) of both; of mirror images none, where only one network looks at them."""
    views = [network.architecture.input.views for network in (a, b)]
    streams = [as_tokens(state.stream) for state in (x, y)]
    if views[0] != views[1]:
        streams = [one.unflatten(0, (-1, count))[:, 0] for one, count in zip(streams, views, strict=True)]
    return Stream(streams[0], x.context.mask), Stream(streams[1], y.context.mask)
