"""The operators' records: what a mixer or a feed-forward is, as data. One class per operator.

A record's widths are named like the axes of its module (`wb.models.axes`): `heads`, `qk` and `v` (channels per head),
`hidden`, `mlp`. To add an operator, write its record here, add it to the union at the end, and write the module that
`module` names. Nothing else has to know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

Width = Annotated[int, Field(ge=1, le=65536)]

# What the weights of a group of linear maps are kept in, from small to large. "int8": 8 bits per output channel, products in
# integers, inputs quantized as they come. "int4": 4 bits in blocks, products in floating point. "w1" and "w2": binary and
# ternary weights with one scale per output channel, which the network is trained with (`wb.models.lowbit`).
Precision = Literal["w1", "w2", "int4", "int8", "fp32"]
ConvPrecision = Literal["int8", "fp32"]  # no runtime here has kernels for less


def _whole(precision: str) -> bool:
    return precision == "fp32"


# Left out of the JSON where it is fp32: networks keep the keys they had before there was a choice.
Kept = Annotated[Precision, Field(exclude_if=_whole)]
ConvKept = Annotated[ConvPrecision, Field(exclude_if=_whole)]


class Frozen(BaseModel):
    """Frozen, compared by value, refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Operator(Frozen):
    """What every mixer and feed-forward record says of itself; its text names a precision only where it is not fp32."""

    module: ClassVar[str]  # "package.file:Class" of the torch module
    needs_grid: ClassVar[bool] = False  # reads its tokens as an image, so that a class token has no place

    def unit(self) -> Self:
        """The record without numbers that its weights could have taken over: `OperatorModule.factors` says by what."""
        return self


class Weighted(Operator):
    """An operator with weights: what those that read the residual stream are kept in, and those that write to it."""

    reads: Kept = "fp32"
    writes: Kept = "fp32"

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(n, value) for n, value in super().__repr_args__() if n not in ("reads", "writes") or value != "fp32"]


class Attention(Weighted):
    """The widths that all attention variants share: heads, and channels per head of queries and keys, and of values."""

    heads: Width
    qk: Width
    v: Width


class Softmax(Attention):
    """Multi-head self-attention with softmax. `scale` multiplies the scores; None stands for `qk ** -0.5`."""

    module = "wb.models.mixers.softmax:SoftmaxAttention"
    kind: Literal["softmax"] = "softmax"
    scale: Annotated[float, Field(ge=-1e6, le=1e6)] | None = None

    def unit(self) -> Self:
        return self.model_copy(update={"scale": 1.0})


class Sla(Attention):
    """SLAB's simplified linear attention: ReLU kernel, learned key positions, depthwise convolution on the values."""

    module = "wb.models.mixers.sla:SimplifiedLinearAttention"
    needs_grid = True
    kind: Literal["sla"] = "sla"
    kernel: Literal[1, 3, 5, 7, 9] = 5


class Cosformer(Attention):
    """cosFormer: ReLU kernel re-weighted by the cosine of the distance."""

    module = "wb.models.mixers.cosformer:CosformerAttention"
    kind: Literal["cosformer"] = "cosformer"


class Hash(Attention):
    """EcoFormer's kernelized hashing: queries, which are also the keys, as codes of `bits` signs; `qk` is their channels.

    The codes are signs of sums over the kernel distances to `anchors` points. `form` "kernel" weighs all values, "official"
    is the published code's numerator, whose weights of a token do not sum to one.
    """

    module = "wb.models.mixers.hash:HashAttention"
    kind: Literal["hash"] = "hash"
    bits: Width = 16
    anchors: Width = 25
    form: Literal["kernel", "official"] = "kernel"


class Pool(Operator):
    """PoolFormer's token mixer: average of the neighbours minus the token."""

    module = "wb.models.mixers.pool:PoolMixer"
    needs_grid = True
    kind: Literal["pool"] = "pool"
    kernel: Literal[3, 5, 7, 9] = 3


class Lmu(Weighted):
    """Legendre memory unit as a convolution: `memory` coefficients of the sequence's history, read by a hidden layer."""

    module = "wb.models.mixers.lmu:LegendreMemory"
    kind: Literal["lmu"] = "lmu"
    memory: Annotated[int, Field(ge=1, le=512)]  # preparing it takes its cube; papers use 468 at most
    hidden: Width
    bidirectional: bool = True


class Mlp(Weighted):
    """Two linear layers with GELU between them."""

    module = "wb.models.ffns.mlp:Mlp"
    kind: Literal["mlp"] = "mlp"
    mlp: Width


Mixer = Annotated[Softmax | Sla | Cosformer | Pool | Lmu | Hash, Field(discriminator="kind")]
Ffn = Mlp  # becomes a union like Mixer with the second feed-forward


class PatchStem(Frozen):
    """A linear map of each `patch` x `patch` square to a token."""

    module: ClassVar[str] = "wb.models.stems.patch:PatchStem"
    kind: Literal["patch"] = "patch"
    patch: Annotated[int, Field(ge=1, le=64)]
    precision: ConvKept = "fp32"


class ConvStem(Frozen):
    """3x3 convolutions of `width` channels with GroupNorm and GELU, then a 2x2 convolution with stride 2.

    `patch` is the total stride, a power of two from 2.
    """

    module: ClassVar[str] = "wb.models.stems.conv:ConvStem"
    kind: Literal["conv"] = "conv"
    patch: Literal[2, 4, 8, 16, 32]
    width: Width
    precision: ConvKept = "fp32"


Stem = Annotated[PatchStem | ConvStem, Field(discriminator="kind")]
