"""A network as the sequence of its sub-layers, run once as it is and again with one of them skipped.

`Network.forward` and the blocks hide what lies between a mixer and its feed-forward, which is all that the analysis of
depth looks at. The same modules run here in the same order, so that the untouched run is that of the network to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from wb.core.architecture import Form
from wb.core.errors import BadOption
from wb.data import Split
from wb.models.network import BlockModule, Network, Norm
from wb.models.operators._base import OperatorModule
from wb.models.stem import Merge

Kind = Literal["mixer", "ffn"]


@dataclass(frozen=True)
class Sublayer:
    """A mixer or a feed-forward with its norm, and the merges of tokens between the sub-layer before it and itself."""

    name: str  # s0.b3.mixer
    block: str  # s0.b3
    kind: Kind
    norm: Norm
    module: OperatorModule
    before: tuple[Merge, ...]
    form: Form

    def enter(self, stream: Tensor) -> Tensor:
        """What the sub-layer reads: the stream (B, N, D) that the one before it left, merged where a stage begins."""
        return _merged(self.before, stream)

    def write(self, h: Tensor) -> Tensor:
        """What the sub-layer adds to `h` (B, N, D): its contribution, of the same shape."""
        written: Tensor = self.module(self.norm(h) if self.form == "pre" else h)
        return written

    def leave(self, h: Tensor, written: Tensor) -> Tensor:
        """The stream after the sub-layer added `written` to `h`, (B, N, D) each; a post-norm one normalises it then."""
        stream = h + written
        return stream if self.form == "pre" else self.norm(stream)


class Trace(NamedTuple):
    """One run over a batch: what each sub-layer read and what it added, (B, N, D) each, and the logits (B, classes)."""

    inputs: list[Tensor]
    writes: list[Tensor]
    logits: Tensor


class Skipped(NamedTuple):
    """A run without sub-layer `s`: what each later one added, by its index, and the logits (B, classes)."""

    writes: dict[int, Tensor]
    logits: Tensor


class Chain:
    """The sub-layers of `network` in order of execution."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.sublayers: list[Sublayer] = []
        merges: list[Merge] = []  # a stage may have no sub-layer, so that several merges follow each other
        for i, stage in enumerate(network.stages):
            if i > 0:
                merges.append(network.merges[i - 1])  # type: ignore[arg-type]
            blocks: Iterable[BlockModule] = stage  # type: ignore[assignment]
            for j, block in enumerate(blocks):
                for kind, norm, module in _parts(block):
                    name = f"s{i}.b{j}"
                    before = tuple(merges)
                    self.sublayers.append(Sublayer(f"{name}.{kind}", name, kind, norm, module, before, network.form))
                    merges = []
        self.rest = tuple(merges)

    @property
    def names(self) -> list[str]:
        """Of the sub-layers."""
        return [sublayer.name for sublayer in self.sublayers]

    def trace(self, images: Tensor) -> Trace:
        """The run as it is, on images (B, channels, height, width) in [0, 1]."""
        stream = self.network.tokens(images)
        inputs, writes = [], []
        for sublayer in self.sublayers:
            h = sublayer.enter(stream)
            inputs.append(h)
            writes.append(sublayer.write(h))
            stream = sublayer.leave(h, writes[-1])
        return Trace(inputs, writes, self.lens(len(inputs), stream))

    def skip(self, trace: Trace, s: int) -> Skipped:
        """The run without sub-layer `s` and its norm; the ones before it are those of `trace`."""
        stream = trace.inputs[s]
        writes = {}
        for later in range(s + 1, len(self.sublayers)):
            h = self.sublayers[later].enter(stream)
            writes[later] = self.sublayers[later].write(h)
            stream = self.sublayers[later].leave(h, writes[later])
        return Skipped(writes, self.lens(len(self.sublayers), stream))

    def direct(self, trace: Trace, s: int) -> Iterator[tuple[int, Tensor]]:
        """What each later sub-layer would add if its input lacked the contribution of `s` and nothing else.

        Those between add what they did; merges, and the norms of a post-norm network, take the rest of the stream along.
        """
        stream = trace.inputs[s]
        for later in range(s + 1, len(self.sublayers)):
            sublayer = self.sublayers[later]
            h = sublayer.enter(stream)
            yield later, sublayer.write(h)
            stream = sublayer.leave(h, trace.writes[later])

    def lens(self, position: int, stream: Tensor) -> Tensor:
        """Logits (B, classes) of the stream that sub-layer `position` would get, were it the last thing in the network.

        Only the merges that are still to come are run: the classifier needs the last stage's width.
        """
        for sublayer in self.sublayers[position:]:
            stream = sublayer.enter(stream)
        return self.network.classify(_merged(self.rest, stream))


def chosen(split: Split, limit: int | None) -> Split:
    """At most `limit` images, evenly spaced: of a split that is sorted by class, every class keeps its share.

    Raises:
        BadOption: `limit` is below 1.
    """
    if limit is None or limit >= len(split):
        return split
    if limit < 1:
        raise BadOption(f"a limit of {limit} images leaves nothing to look at; give 1 or more")
    return split.take(np.arange(limit) * len(split) // limit)


def _parts(block: BlockModule) -> Iterator[tuple[Kind, Norm, OperatorModule]]:
    if block.mixer is not None:
        yield "mixer", block.norm1, block.mixer
    if block.ffn is not None:
        yield "ffn", block.norm2, block.ffn


def _merged(merges: Iterable[Merge], stream: Tensor) -> Tensor:
    for merge in merges:
        stream = merge(stream)
    return stream
