"""Feed-forwards: what is computed for every token by itself or, where there are convolutions, with its neighbours."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from wb.core.layout import CAUSAL, Supports
from wb.core.records.base import (
    Activation,
    Biases,
    Convolved,
    Dim,
    Filtered,
    Frozen,
    Group,
    Kernel,
    Operator,
    Precision,
    Weighted,
    Width,
    is_fp32,
    is_none,
)
from wb.core.records.norms import Eps


def is_gelu(activation: str) -> bool:
    """Whether an activation is left out of the JSON: networks keep the keys they had before there were others."""
    return activation == "gelu"


class Mlp(Weighted):
    """Two linear layers with an activation between them."""

    module = "wb.models.ffns.mlp:Mlp"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "two-layer perceptron"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    kind: Literal["mlp"] = "mlp"
    mlp: Annotated[Width, Dim("hidden units")]
    activation: Annotated[Activation, Field(exclude_if=is_gelu)] = "gelu"
    bias: Biases = True


class Glu(Weighted):
    """Two linear layers side by side, one of which gates the other, and a third behind them."""

    module = "wb.models.ffns.glu:Glu"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "gated linear unit"
    source = 'Shazeer, "GLU Variants Improve Transformer", 2020'
    kind: Literal["glu"] = "glu"
    mlp: Annotated[Width, Dim("hidden units")]
    activation: Activation = "silu"
    bias: bool = False


class Activator(Weighted):
    """A gated linear unit whose gate, behind its activation, and whose gated half have one layer norm between them.

    It mixes no tokens: a network needs mixers beside it.
    """

    module = "wb.models.ffns.activator:Activator"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "Activator's gated unit"
    source = (
        'Abdullah and Aydin, "Activator: GLU Activation Function as the Core Component of a Vision Transformer", 2024'
    )
    kind: Literal["activator"] = "activator"
    mlp: Annotated[Width, Dim("hidden units")]
    activation: Annotated[Activation, Field(exclude_if=is_gelu)] = "gelu"
    eps: Eps = 1e-5


class Pattention(Weighted):
    """Attention of a token to `mlp` learned keys and values, its weights a GELU of scores of a fixed length.

    That length is `length`; None stands for the root of the number of keys, as published, so that further keys change the
    function even if they are zero. `form` says whether scores have the length before the GELU or behind it.
    """

    module = "wb.models.ffns.pattention:Pattention"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "attention to parameters"
    source = 'Wang et al., "TokenFormer: Rethinking Transformer Scaling with Tokenized Model Parameters", 2025'
    kind: Literal["pattention"] = "pattention"
    mlp: Annotated[Width, Dim("keys and values")]
    form: Literal["l2_norm_gelu", "gelu_l2_norm"] = "l2_norm_gelu"
    length: Annotated[float, Field(gt=0, le=1e6)] | None = None

    def padded(self, changed: Collection[str]) -> Self:
        """With its length written out where keys that are zero join the others."""
        if self.length is not None or "mlp" not in changed:
            return self
        return self.model_copy(update={"length": math.sqrt(self.mlp)})


class Tables(Operator):
    """`tables` tables with a row for each pattern of `bits` signs: of each, the row of the signs of what a linear map finds.

    A row is weighed by the probability of its pattern, where others are the less probable the further its numbers are from zero.
    `form` "official" is the weight of the published code: that times the sum of their magnitudes. Tables stay in floating point.
    """

    module = "wb.models.ffns.tables:Tables"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"tables": 5, "bits": 3}
    share = 0.1  # a table of four bits has twenty numbers for each channel of the stream
    title = "tables of hashed tokens"
    source = 'Ding et al., "MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers", 2024'
    kind: Literal["hash_tables"] = "hash_tables"
    tables: Annotated[Width, Dim("tables")]
    bits: Annotated[int, Field(ge=1, le=12)] = 4
    form: Literal["official", "probability"] = "official"
    reads: Annotated[Precision, Field(exclude_if=is_fp32), Group(".in")] = "fp32"


class ConvNext(Weighted):
    """A convolution of each channel with a bias, a layer norm behind it, and a two-layer perceptron: one residual for all.

    The convolution stays in floating point.
    """

    module = "wb.models.ffns.convnext:ConvNext"
    normed = True
    supports: ClassVar[Supports] = Supports(line=False, prefix=False)
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9, "kernel": 3}
    title = "ConvNeXt block"
    source = 'Liu et al., "A ConvNet for the 2020s", 2022'
    kind: Literal["depthwise_mlp"] = "depthwise_mlp"
    mlp: Annotated[Width, Dim("hidden units")]
    kernel: Annotated[Literal[3, 5, 7, 9], Kernel()] = 7
    activation: Activation = "gelu"
    eps: Eps = 1e-6


class ConvFfn(Filtered):
    """Two 1x1 convolutions along the tokens, each with a batch norm and an activation behind it, the second a ReLU."""

    module = "wb.models.ffns.convolutional:ConvFfn"
    supports: ClassVar[Supports] = Supports()
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "convolutional feed-forward"
    source = 'Liu et al., "LMUFormer: Low Complexity Yet Powerful Spiking Model With Legendre Memory Units", 2024'
    kind: Literal["conv_ffn"] = "conv_ffn"
    mlp: Annotated[Width, Dim("hidden units")]
    activation: Annotated[Activation, Field(exclude_if=is_gelu)] = "gelu"


class ChannelScan(Weighted):
    """A selective scan over the channels of the stream, each the numbers that all tokens have there; a bidirectional one has two.

    The second goes from the last channel to the first, with weights of its own. Of every channel are made
    `scan_inner` features, each with `scan_state` numbers. It is for one number of tokens, which it mixes.
    """

    module = "wb.models.ffns.channels:ChannelScan"
    supports: ClassVar[Supports] = Supports()
    example: ClassVar[Mapping[str, Any]] = {"scan_inner": 6, "scan_state": 3, "rank": 2}
    share = 0.25  # three maps for each direction, and the scans
    title = "selective scan over channels"
    source = 'Behrouz et al., "MambaMixer: Efficient Selective State Space Models with Dual Token and Channel Selection", 2024'
    kind: Literal["channel_scan"] = "channel_scan"
    scan_inner: Annotated[Width, Dim("features of a channel")]
    scan_state: Annotated[Annotated[int, Field(ge=1, le=256)], Dim("state of a feature", aligned=False)] = 16
    rank: Annotated[int, Field(ge=1, le=4096)] = 4
    kernel: Annotated[int, Field(ge=1, le=16)] = 4
    bidirectional: bool = True


class Words(Weighted):
    """An inner transformer for every token by itself: `words` that attend to each other and pass a perceptron.

    What they become is normed together, mapped to the stream, and normed again. It mixes no tokens: a network needs mixers beside
    it. `word_scale` multiplies the scores of words; None stands for `word_qk ** -0.5`.
    """

    module = "wb.models.ffns.words:Words"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {
        "word_mlp": 7,
        "words": 3,
        "word_channels": 5,
        "word_heads": 2,
        "word_qk": 4,
        "word_v": 6,
    }
    title = "inner transformer of words"
    source = 'Han et al., "Transformer in Transformer", 2021'
    kind: Literal["tnt"] = "tnt"
    word_mlp: Annotated[Width, Dim("hidden units of a word")]
    word_channels: Annotated[Width, Dim("channels of a word", aligned=False)] = 12
    words: Annotated[Width, Dim("words of a token", aligned=False)] = 16
    word_heads: Annotated[Width, Dim("heads of words", aligned=False)] = 2
    word_qk: Annotated[Width, Dim("query/key channels of words", within="word_heads", late=1, aligned=False)] = 6
    word_v: Annotated[Width, Dim("value channels of words", within="word_heads", late=1, aligned=False)] = 6
    word_scale: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None
    activation: Annotated[Activation, Field(exclude_if=is_gelu)] = "gelu"
    eps: Eps = 1e-5

    @property
    def factor(self) -> float:
        return self.word_qk**-0.5 if self.word_scale is None else self.word_scale

    def settled(self, changed: Collection[str]) -> Self:
        return self.model_copy(update={"word_scale": self.factor}) if "word_qk" in changed else self

    def structure(self) -> Self:
        return self.model_copy(update={"word_scale": None})

    def unit(self) -> Self:
        return self.model_copy(update={"word_scale": 1.0})


class Squeeze(Frozen):
    """Squeeze and excitation: every channel times a gate, which `width` hidden units find from the means of all channels."""

    width: Width
    gate: Literal["hardsigmoid", "sigmoid"] = "hardsigmoid"
    activation: Literal["relu", "silu"] = "relu"


class Inverted(Convolved):
    """An inverted bottleneck: a 1x1 convolution to `mlp` channels, a depthwise one among them unless `kernel` is 0, and back.

    With `se` its hidden channels are gated before they are projected back.
    """

    module = "wb.models.ffns.inverted:Inverted"
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9, "kernel": 3}
    title = "inverted bottleneck"
    source = 'Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018'
    kind: Literal["inverted"] = "inverted"
    mlp: Annotated[Width, Dim("hidden units")]
    kernel: Annotated[Literal[0, 3, 5, 7], Kernel()] = 0
    activation: Activation = "relu"
    se: Annotated[Squeeze | None, Field(exclude_if=is_none)] = None


class Fused(Convolved):
    """A dense convolution to `mlp` channels, and a 1x1 one back."""

    module = "wb.models.ffns.fused:Fused"
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "fused bottleneck"
    source = 'Tan and Le, "EfficientNetV2: Smaller Models and Faster Training", 2021'
    kind: Literal["fused"] = "fused"
    mlp: Annotated[Width, Dim("hidden units")]
    kernel: Annotated[Literal[3, 5], Kernel()] = 3
    activation: Activation = "relu"


class Basic(Convolved):
    """Two dense convolutions, to `mlp` channels and back: the block of residual networks, with no activation behind it."""

    module = "wb.models.ffns.basic:Basic"
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    share = 0.5
    title = "residual block of two convolutions"
    source = 'He et al., "Deep Residual Learning for Image Recognition", 2016'
    kind: Literal["basic"] = "basic"
    mlp: Annotated[Width, Dim("hidden units")]
    kernel: Annotated[Literal[3, 5], Kernel()] = 3
    activation: Activation = "relu"


# From dear to cheap; spaces offer them in the opposite order.
Ffn = Annotated[
    Basic | Fused | ChannelScan | Words | Tables | ConvNext | Activator | Glu | Inverted | ConvFfn | Pattention | Mlp,
    Field(discriminator="kind"),
]
