"""How the sub-layers of a stage read the residual stream and add to it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from wb.core.layout import CAUSAL
from wb.core.records.base import Part


class Wired(Part):
    """What all wirings have: tokens pass them one by one, on whatever plane."""

    supports = CAUSAL._replace(planes=("tokens", "map"))
    normalised: ClassVar[bool] = False  # leaves the stream behind a norm: the head needs none of its own


class Pre(Wired):
    """`x + f(norm(x))`."""

    module = "wb.models.wirings.pre:Pre"
    title = "pre-norm"
    source = 'Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020'
    kind: Literal["pre"] = "pre"


class Post(Wired):
    """`norm(x + f(x))`."""

    module = "wb.models.wirings.post:Post"
    title = "post-norm"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    normalised = True
    kind: Literal["post"] = "post"


class Parallel(Wired):
    """`x + mixer(norm1(x)) + ffn(norm2(x))`."""

    module = "wb.models.wirings.parallel:Parallel"
    title = "parallel"
    source = 'Wang and Komatsuzaki, "GPT-J-6B", 2021'
    kind: Literal["parallel"] = "parallel"


class Ladder(Wired):
    """Pre-norm, but a sub-layer reads the stream as it was before the one in front of it added to it.

    With `sequential` the sub-layers of the first block read the stream as it is, as in the published code.
    """

    module = "wb.models.wirings.ladder:Ladder"
    title = "ladder"
    source = (
        'Zhang et al., "Ladder-Residual: Parallelism-Aware Architecture for Accelerating Large Model Inference", 2025'
    )
    kind: Literal["ladder"] = "ladder"
    sequential: bool = False


Wiring = Annotated[Pre | Post | Parallel | Ladder, Field(discriminator="kind")]
