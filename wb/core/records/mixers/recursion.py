"""Mixers that run the same weights several times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from wb.core.layout import CAUSAL
from wb.core.records.attention import Scaled
from wb.core.records.base import Dim, Operator, Repeats, Width
from wb.core.records.norms import Eps


class Recursion(Scaled, Operator):
    """A block of attention and a perceptron, `loops` times with the same weights. It has its own norms."""

    normed = True
    loop_mlp: Annotated[Width, Dim("hidden units in the loop")] = 256
    eps: Eps = 1e-6

    def structure(self) -> Self:
        return self.model_copy(update={"scale": None})

    def unit(self) -> Self:
        return self.model_copy(update={"scale": 1.0})


class Sliced(Recursion):
    """A block of attention and a perceptron, `loops` times with the same weights, and behind each time a perceptron of its own.

    Attention is within groups of tokens that follow each other: `groups` the first time, `later` the times after, when the
    tokens are in another order, always the same one. There are as many groups as divide the tokens. The stream is multiplied
    by a factor, and what is added to it by another one. It has its own norms and perceptrons: a block needs nothing beside it.
    """

    module = "wb.models.mixers.attention.sliced:SlicedRecursion"
    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "qk": 4,
        "v": 6,
        "loop_mlp": 7,
        "loop_projection": 5,
        "groups": 1,
        "later": 2,
    }
    title = "sliced recursion"
    source = 'Shen et al., "Sliced Recursive Transformer", 2022'
    kind: Literal["sliced"] = "sliced"
    loop_projection: Annotated[Width, Dim("hidden units behind each loop")] = 64
    loops: Annotated[int, Field(ge=1, le=16), Repeats()] = 2
    groups: Annotated[int, Field(ge=1, le=1024)] = 4
    later: Annotated[int, Field(ge=1, le=1024)] = 1


class Looped(Recursion):
    """A block f of attention and a perceptron, `loops` times with the same weights: z <- f(z + x) from z = 0 on, x the stream.

    Without `inject` it is z <- f(z) from z = x on. With `closed` f ends with a norm. What it contributes leaves z in the place
    of the stream, while its one factor is one. It has its own norms and its perceptron: a block needs nothing beside it.
    """

    module = "wb.models.mixers.attention.looped:LoopedBlock"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "loop_mlp": 7, "loops": 3}
    title = "looped block"
    source = (
        'Yang et al., "Looped Transformers are Better at Learning Learning Algorithms", 2023; Gao et al., "AlgoFormer: An '
        'Efficient Transformer Framework with Algorithmic Structures", 2024'
    )
    kind: Literal["looped"] = "looped"
    loops: Annotated[int, Field(ge=1, le=64), Repeats()] = 4
    inject: bool = True
    closed: bool = True
