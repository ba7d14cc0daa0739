"""Mixers that carry a state along the tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wb.core.layout import CAUSAL, Layout, Supports
from wb.core.records.attention import Scored
from wb.core.records.base import Dim, Operator, Preparation, Weighted, Width, is_false


def legendre(memory: int, tokens: int) -> Preparation:
    """The impulse response of a memory: a matrix exponential, and one product with it a token."""
    return Preparation((memory, tokens), memory**2 * (16 * memory + tokens), "memory")


class Lmu(Weighted):
    """Legendre memory unit as a convolution: `memory` coefficients of the sequence's history, read by a hidden layer.

    With `bidirectional` also of what follows, where a token may see that.
    """

    module = "wb.models.mixers.memory.lmu:LegendreMemory"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"memory": 5, "hidden": 7}
    title = "Legendre memory unit"
    source = 'Voelker et al., "Legendre Memory Units", 2019'
    kind: Literal["lmu"] = "lmu"
    memory: Annotated[  # papers use 468 at most
        int, Field(ge=1, le=512), Dim("memory", ordered=True, fitted=True, scored=False, aligned=False)
    ]
    hidden: Annotated[Width, Dim("hidden units of the memory")]
    bidirectional: bool = True

    def preparation(self, tokens: int) -> Preparation:
        return legendre(self.memory, tokens)


class SpikingLmu(Operator):
    """A Legendre memory unit whose numbers are spikes: batch norms, and neurons that add up what they are given and fire.

    Spikes are what it reads, what enters the memory of `memory` coefficients, what leaves it, and the hidden units. Every token
    sees itself and those before it. It has its own norms, and none in front of it.
    """

    module = "wb.models.mixers.memory.spiking:SpikingMemory"
    normed = True
    supports = Supports(prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"memory": 5, "hidden": 7}
    title = "spiking Legendre memory unit"
    source = 'Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", 2024'
    kind: Literal["lmu_spiking"] = "lmu_spiking"
    # No width: what spikes of another basis are is no linear function of what these are.
    memory: Annotated[int, Field(ge=1, le=512)] = 32
    hidden: Annotated[Width, Dim("hidden units of the memory")]

    def preparation(self, tokens: int) -> Preparation:
        return legendre(self.memory, tokens)


class Scanning(Weighted):
    """What has a selective scan in it: `state` numbers for each of `inner` channels, which fade and take in what the token says.

    `rank` is of the map that finds how fast, the same in all networks of a space.
    """

    inner: Annotated[Width, Dim("inner channels")]
    state: Annotated[Annotated[int, Field(ge=1, le=256)], Dim("state of a channel", aligned=False)] = 16
    rank: Annotated[int, Field(ge=1, le=4096)] = 4
    kernel: Annotated[int, Field(ge=1, le=16)] = 4


class S6(Scanning):
    """Mamba's selective scan. Every token sees itself and those before it."""

    module = "wb.models.mixers.memory.s6:SelectiveScan"
    supports = CAUSAL._replace(prefix=False)  # a token in front would see nothing but itself
    example: ClassVar[Mapping[str, Any]] = {"inner": 6, "state": 3, "rank": 2}
    title = "selective scan"
    source = 'Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2024'
    kind: Literal["s6"] = "s6"


class Bmojo(Scored, Scanning):
    """Softmax attention to the last `window` tokens and to what a selective scan had made of as many before those.

    Every token sees itself and those before it; in a picture, in the order of its rows. With `rotary` queries and keys, the
    memory's too, turn with the places of their tokens; `qk` then counts planes, pairs of channels.
    """

    module = "wb.models.mixers.memory.bmojo:FadingMemoryAttention"
    supports = Supports(causal="yes", prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 7, "window": 2, "inner": 6, "state": 3, "rank": 2}
    title = "window attention with fading memory"
    source = 'Zancato et al., "B\'MOJO: Hybrid State Space Realizations of Foundation Models", 2024'
    kind: Literal["bmojo"] = "bmojo"
    window: Annotated[int, Field(ge=1, le=2048)] = 32
    rotary: Annotated[bool, Field(exclude_if=is_false)] = False

    @property
    def factor(self) -> float:
        return (2 * self.qk) ** -0.5 if self.rotary and self.scale is None else super().factor


class Learning(Weighted):
    """What has a memory of each head that learns while it reads, a perceptron of `hidden` units, with every `chunk` tokens.

    What a token reads has learned from the chunks that end with it or before it.
    """

    supports = CAUSAL._replace(prefix=False)
    unexported = "takes gradients while it runs, which no exporter can trace"
    heads: Annotated[Width, Dim("heads", aligned=False)]
    # What goes changes how fast what stays learns, so that a gradient does not tell what a unit adds.
    channels: Annotated[Width, Dim("channels of a head", within="heads", scored=False, late=1)]
    hidden: Annotated[Width, Dim("hidden units of the memory", within="heads", scored=False, late=1)]
    chunk: Annotated[int, Field(ge=1, le=2048)] = 16

    def refuses(self, layout: Layout) -> str | None:
        """Fewer tokens than a chunk has, of which nothing would be read."""
        few = f"learns from chunks of {self.chunk} tokens, and there are {layout.tokens}; give it a chunk of at most as many"
        return super().refuses(layout) or (few if layout.tokens < self.chunk else None)


class Titans(Learning):
    """A memory of each head, a perceptron of `hidden` units that learns with every `chunk` tokens to give their values for keys.

    Gradients are at the weights before the first token or, in the `form` "running", at those that it has by then.
    """

    module = "wb.models.mixers.memory.titans:NeuralMemory"
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "channels": 4, "hidden": 5, "chunk": 2}
    title = "neural memory"
    source = 'Behrouz et al., "Titans: Learning to Memorize at Test Time", 2024'
    kind: Literal["titans"] = "titans"
    form: Literal["official", "running"] = "official"


class Atlas(Learning):
    """A memory of each head that learns the last `window` tokens together with every `chunk` of them, by orthogonal steps.

    It is given, of queries and keys, the channels and, with `polynomial`, the products of two. With a `chunk` of 1 it is the
    published recurrence.
    """

    module = "wb.models.mixers.memory.atlas:OmegaMemory"
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "channels": 4, "hidden": 5, "chunk": 2, "window": 3}
    title = "neural memory of a window"
    source = 'Behrouz et al., "ATLAS: Learning to Optimally Memorize the Context at Test Time", 2025'
    kind: Literal["atlas"] = "atlas"
    window: Annotated[int, Field(ge=1, le=4096)] = 32
    polynomial: bool = True

    @model_validator(mode="after")
    def _learns_each(self) -> Self:
        if self.window < self.chunk:
            raise ValueError(
                f"a window of {self.window} tokens leaves out some of each chunk of {self.chunk}; give it at least as many"
            )
        return self
