"""Mixers that attend to summaries: of rows, of blocks, at several scales, through latents, through one prototype a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import Supports
from wb.core.records.attention import Scored
from wb.core.records.base import Dim, Tile, Weighted, Width, is_false
from wb.core.records.norms import Eps

COMBINER = 'Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021'


class AxialCombiner(Scored):
    """Softmax attention, in one, to the tokens of one's own row and to what every other row attends to in one's own column.

    Rows have so many tokens as divide the number of them, at most `segment`. The key of such a summary is read from `summary`
    channels: a layer norm of the token in that place and of what it attends to in its row. `form` "official" is the published
    code of text encoders, which counts one's own row twice: by its tokens and by its summary.
    """

    module = "wb.models.mixers.sparse.axial:AxialCombinerAttention"
    supports = Supports(prefix=False, causal="yes")
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "segment": 2, "summary": 5}
    title = "axial Combiner attention"
    source = COMBINER
    kind: Literal["combiner_axial"] = "combiner_axial"
    segment: Annotated[int, Field(ge=1, le=65536)] = 16
    summary: Annotated[Width, Dim("summary channels")] = 64
    form: Literal["once", "official"] = "once"
    eps: Eps = 1e-6


class LogCombiner(Scored):
    """Softmax attention to oneself and to summaries of blocks that halve from far to near, in one softmax.

    The tokens before one's own are cut into blocks of powers of two, the largest first, as the digits of their number say; those
    behind it alike, from the end. A summary is that of Combiner attention.
    """

    module = "wb.models.mixers.sparse.logarithmic:LogCombinerAttention"
    supports = Supports(prefix=False, causal="yes")
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "logarithmic Combiner attention"
    source = COMBINER
    kind: Literal["combiner_log"] = "combiner_log"


class Scales(Scored):
    """Softmax attention within regions of `side` x `side` tokens, to these and to their means over 2x2, 4x4, ... tokens.

    There are as many scales as divide the side, at most `scales`; one is the tokens alone.
    """

    module = "wb.models.mixers.sparse.scales:ScaleAttention"
    supports = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "side": 2}
    title = "scale attention"
    source = 'Tang et al., "DuoFormer: Leveraging Hierarchical Representations by Local and Global Attention", 2024'
    kind: Literal["scales"] = "scales"
    side: Annotated[int, Field(ge=1, le=64), Tile()] = 8
    scales: Annotated[int, Field(ge=1, le=7)] = 3


class Latents(Scored):
    """Attention among groups of tokens that follow each other, through `latents` of `latent_width` channels for each group.

    They take in their group, attend to all latents, pass a perceptron of `latent_mlp` hidden units, and are what the tokens of
    the group attend to. There are as many groups as divide the tokens, at most `groups`. With `ordered` latents see those of
    their group and of groups before it.
    """

    module = "wb.models.mixers.sparse.latents:LatentAttention"
    example: ClassVar[Mapping[str, Any]] = {
        "heads": 2,
        "qk": 4,
        "v": 6,
        "groups": 2,
        "latents": 3,
        "latent_width": 5,
        "latent_mlp": 7,
    }
    title = "attention through latents"
    source = 'Chen and Li, "FIT: Far-reaching Interleaved Transformers", 2023'
    kind: Literal["latents"] = "latents"
    groups: Annotated[int, Field(ge=1, le=1024)] = 4
    latent_width: Annotated[Width, Dim("channels of a latent")] = 64
    latents: Annotated[Width, Dim("latents of a group", scored=False, aligned=False)] = (
        8  # one of zeros is attended too
    )
    latent_mlp: Annotated[Width, Dim("hidden units of latents")] = 256
    ordered: Annotated[bool, Field(exclude_if=is_false)] = False
    eps: Eps = 1e-6


class Prototypes(Weighted):
    """Every token takes one token for each head, the one whose key is most like its query, and what the two have in common.

    Queries and keys have length one over all heads. Keys are convolved, channel by channel; with `front`, as in the published
    code, the tokens that they are read from. Tokens in front are queries only.
    What the two have in common is scaled to length one: token by token over its channels, or, in the `form` "official", channel
    by channel over the tokens, as the published code does it.
    """

    module = "wb.models.mixers.sparse.prototypes:PrototypeAttention"
    supports = Supports(line=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "prototype": 4}
    title = "prototype attention"
    source = 'Cavagnero et al., "PEM: Prototype-based Efficient MaskFormer for Image Segmentation", 2024'
    kind: Literal["prototypes"] = "prototypes"
    # What goes changes the length of what stays, so that a gradient does not tell what a unit adds.
    heads: Annotated[Width, Dim("heads", scored=False, aligned=False)]
    prototype: Annotated[Width, Dim("channels of a prototype", within="heads", scored=False, late=1)] = 64
    form: Literal["channels", "official"] = "channels"
    front: Annotated[bool, Field(exclude_if=is_false)] = False
