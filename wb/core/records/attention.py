"""Mixers that project tokens to queries, keys and values of several heads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from wb.core.layout import CAUSAL, Supports
from wb.core.records.base import Biases, Dim, Part, Tile, Weighted, Width


class Headed(Part):
    """The widths that all attention variants share: heads, and channels per head of queries and keys, and of values."""

    heads: Annotated[Width, Dim("heads", aligned=False)]
    qk: Annotated[Width, Dim("query/key channels", within="heads", late=1)]
    v: Annotated[Width, Dim("value channels", within="heads", late=1)]


class Scaled(Headed):
    """What has attention with softmax in it. `scale` multiplies the scores; None stands for `qk ** -0.5`."""

    scale: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None

    @property
    def factor(self) -> float:
        return self.qk**-0.5 if self.scale is None else self.scale

    def settled(self, changed: Collection[str]) -> Self:
        return self.model_copy(update={"scale": self.factor}) if "qk" in changed else self


class Attention(Headed, Weighted):
    """A mixer of several heads."""


class Scored(Scaled, Attention):
    """Attention with softmax, or an estimate of it."""

    def structure(self) -> Self:
        return self.model_copy(update={"scale": None})

    def unit(self) -> Self:
        return self.model_copy(update={"scale": 1.0})


class Softmax(Scored):
    """Multi-head self-attention with softmax.

    With `bias` every projection has a bias; without `qkv_bias` only that of the output has one.
    """

    module = "wb.models.mixers.attention.softmax:SoftmaxAttention"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "softmax attention"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    kind: Literal["softmax"] = "softmax"
    bias: Biases = True
    qkv_bias: Biases = True


class Rotary(Scored):
    """Softmax attention with rotary positions and grouped queries: each of the `heads` of keys and values has `queries` of them.

    `qk` counts planes, pairs of channels that turn with the place of a token; the first turns by one radian a token, the last by
    nearly 1 / `base`. With `rms` queries and keys are normalised head by head, before they turn. With `qkv_bias` queries, keys
    and values have biases.
    """

    module = "wb.models.mixers.attention.rotary:RotaryAttention"
    supports: ClassVar[Supports] = CAUSAL._replace(grid=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "queries": 3, "qk": 4, "v": 6}
    title = "rotary attention with grouped queries"
    source = 'Su et al., "RoFormer", 2021; Ainslie et al., "GQA", 2023'
    kind: Literal["rotary"] = "rotary"
    queries: Annotated[Width, Dim("queries per key/value head", within="heads", aligned=False, late=1)] = 1
    base: Annotated[float, Field(gt=1, le=1e12)] = 10_000.0
    rms: bool = False
    eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    qkv_bias: bool = False

    @property
    def factor(self) -> float:
        return (2 * self.qk) ** -0.5 if self.scale is None else self.scale

    def sharpened(self, by: float) -> Self:
        return self.model_copy(update={"rms": True, "scale": by * self.factor})


class Relative(Scored):
    """Softmax attention whose scores have a learned bias for every distance in rows and columns."""

    module = "wb.models.mixers.attention.relative:RelativeAttention"
    supports = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "relative attention"
    source = 'Dai et al., "CoAtNet: Marrying Convolution and Attention for All Data Sizes", 2021'
    kind: Literal["relative"] = "relative"


class Window(Scored):
    """Softmax attention within windows of `window` x `window` tokens, with a bias for every distance.

    With `shift` the windows are moved by half of one, around the borders, where tokens that are no neighbours do not see each
    other. A picture that is not larger than a window is one, without shift.
    """

    module = "wb.models.mixers.attention.window:WindowAttention"
    supports = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "window": 2}
    title = "window attention"
    source = 'Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", 2021'
    kind: Literal["window"] = "window"
    window: Annotated[int, Field(ge=2, le=64), Tile()] = 7
    shift: bool = False

    def in_block(self, number: int) -> Self:
        """Every second block shifts its windows."""
        return self.model_copy(update={"shift": True}) if number % 2 else self


class MaskUnit(Scored):
    """Softmax attention within mask units of `side` x `side` tokens, and nothing else: no shift, no bias for distances."""

    module = "wb.models.mixers.attention.mask:MaskUnitAttention"
    supports = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "side": 2}
    title = "mask unit attention"
    source = 'Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023'
    kind: Literal["mask"] = "mask"
    side: Annotated[int, Field(ge=2, le=64), Tile()] = 8


class Grouped(Scored):
    """Softmax attention within groups of tokens that follow each other: as many as divide the tokens, at most `groups`.

    With `permuted` the tokens are in another order meanwhile, always the same one, so that groups are of tokens from everywhere.
    """

    module = "wb.models.mixers.attention.group:GroupAttention"
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "groups": 2}
    title = "group attention"
    source = 'Shen et al., "Sliced Recursive Transformer", 2022'
    kind: Literal["grouped"] = "grouped"
    groups: Annotated[int, Field(ge=1, le=1024)] = 4
    permuted: bool = False


class Sliding(Scored):
    """Softmax attention to the tokens that are at most `reach` places away in a line; of a picture in the order of its rows."""

    module = "wb.models.mixers.attention.sliding:SlidingAttention"
    supports = CAUSAL._replace(prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "reach": 2}
    title = "sliding window attention"
    source = 'Beltagy et al., "Longformer: The Long-Document Transformer", 2020'
    kind: Literal["sliding"] = "sliding"
    reach: Annotated[int, Field(ge=1, le=2048)] = 32


class Combiner(Scored):
    """Softmax attention to the tokens of one's own segment and to a summary of every other segment, in one softmax.

    Segments have so many tokens as divide the number of them, at most `segment`. A summary has the largest of the keys' entries
    as its key, and what the largest of the queries' entries attend to as its value. `form` "official" is the published code
    of text encoders, which counts one's own segment twice: by its tokens and by its summary.
    """

    module = "wb.models.mixers.attention.combiner:CombinerAttention"
    supports = Supports(prefix=False, causal="yes")
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "segment": 2}
    title = "Combiner attention"
    source = 'Ren et al., "Combiner: Full Attention Transformer with Sparse Computation Cost", 2021'
    kind: Literal["combiner"] = "combiner"
    segment: Annotated[int, Field(ge=1, le=65536)] = 16
    form: Literal["once", "official"] = "once"


class Linear(Attention):
    """Attention whose kernel is a product of what is positive in queries and keys, each row divided by its sum."""

    module = "wb.models.mixers.linear.linear:LinearAttention"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "ReLU linear attention"
    source = 'Cai et al., "EfficientViT: Multi-Scale Linear Attention for High-Resolution Dense Prediction", 2023'
    kind: Literal["linear"] = "linear"


class Sla(Attention):
    """SLAB's simplified linear attention: ReLU kernel, learned key positions, depthwise convolution on the values."""

    module = "wb.models.mixers.linear.sla:SimplifiedLinearAttention"
    supports = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "simplified linear attention"
    source = 'Guo et al., "SLAB", 2024'
    kind: Literal["sla"] = "sla"
    kernel: Literal[1, 3, 5, 7, 9] = 5


class Cosformer(Attention):
    """cosFormer: ReLU kernel re-weighted by the cosine of the distance."""

    module = "wb.models.mixers.linear.cosformer:CosformerAttention"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6}
    title = "cosFormer attention"
    source = 'Qin et al., "cosFormer: Rethinking Softmax in Attention", 2022'
    kind: Literal["cosformer"] = "cosformer"


class Hash(Attention):
    """EcoFormer's kernelized hashing: queries, which are also the keys, as codes of `bits` signs; `qk` is their channels.

    The codes are signs of sums over the kernel distances to `anchors` points. `form` "kernel" weighs all values, "official"
    is the published code's numerator, whose weights of a token do not sum to one.
    """

    module = "wb.models.mixers.linear.hash:HashAttention"
    untaught = True
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "anchors": 3, "bits": 11}
    title = "hash attention"
    source = 'Liu et al., "EcoFormer: Energy-Saving Attention with Linear Complexity", 2022'
    kind: Literal["hash"] = "hash"
    anchors: Annotated[Width, Dim("anchors", scored=False, aligned=False)] = 25
    bits: Annotated[Width, Dim("bits of a code", ordered=True, scored=False, aligned=False)] = 16
    form: Literal["kernel", "official"] = "kernel"
