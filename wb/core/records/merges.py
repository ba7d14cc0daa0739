"""What leads from one stage's tokens to the next stage's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import Layout, Supports
from wb.core.records.attention import Scaled
from wb.core.records.base import Activation, ConvKept, Dim, Kernel, Part, Tile, Width, is_false, is_none
from wb.core.records.ffns import Squeeze
from wb.core.records.norms import Eps


class Halving(Part):
    """What halves the sides of a picture of tokens, as merges do; where it takes odd ones, a half is rounded up."""

    odd: ClassVar[bool] = False  # whether it takes odd sides
    offered: ClassVar[bool] = True  # whether spaces choose it; they halve the sides at every stage
    supports: ClassVar[Supports] = Supports(line=False, prefix=False, planes=("tokens", "map"))
    precision: ConvKept = "fp32"

    def layout(self, before: Layout) -> Layout:
        """The tokens of the stage that it begins."""
        rows, columns = before.shape
        return before._replace(shape=((rows + 1) // 2, (columns + 1) // 2))

    @classmethod
    def lacks(cls, given: Layout) -> str | None:
        """What it lacks for the tokens that it is given, in words; None where it lacks nothing."""
        lack = super().lacks(given)
        if lack is None and not cls.odd and any(side % 2 for side in given.shape):
            return f"cannot halve {'x'.join(map(str, given.shape))} tokens, a side of which is odd"
        return lack


class Conv2x2(Halving):
    """A 2x2 convolution with stride 2: four tokens become one."""

    module = "wb.models.merges.conv:Merge"
    title = "merging 2x2 tokens"
    source = 'Liu et al., "Swin Transformer", 2021'
    kind: Literal["conv"] = "conv"


class NormedConv(Halving):
    """A layer norm, and a 2x2 convolution with stride 2 behind it: ConvNeXt's downsampling."""

    module = "wb.models.merges.normed_conv:NormedConv"
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-5}
    title = "convolutional merging behind a norm"
    source = 'Liu et al., "A ConvNet for the 2020s", 2022'
    kind: Literal["normed_conv"] = "normed_conv"
    eps: Eps = 1e-6


class Overlapping(Halving):
    """A 3x3 convolution with stride 2 and a bias, and no norm: PoolFormer's embedding of patches."""

    module = "wb.models.merges.overlapping:Overlapping"
    odd = True
    title = "overlapping merging"
    source = 'Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022'
    kind: Literal["overlapping"] = "overlapping"


class NormedMerge(Halving):
    """Four tokens side by side, a layer norm, and a linear map without bias: Swin's patch merging."""

    module = "wb.models.merges.normed:NormedMerge"
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-5}
    title = "normed merging of 2x2 tokens"
    source = 'Liu et al., "Swin Transformer", 2021'
    kind: Literal["normed"] = "normed"
    eps: Eps = 1e-5


class Dw3(Halving):
    """A depthwise convolution with stride 2, then a 1x1 convolution, each with a batch norm."""

    module = "wb.models.merges.dw3:Dw3"
    example: ClassVar[Mapping[str, Any]] = {"kernel": 3}
    odd = True
    title = "depthwise merging"
    source = 'Howard et al., "MobileNets", 2017'
    kind: Literal["dw3"] = "dw3"
    kernel: Annotated[Literal[3, 5, 7], Kernel()] = 3


class Conv3x3(Halving):
    """A dense 3x3 convolution with stride 2 and a batch norm, and then what `activation` says."""

    module = "wb.models.merges.conv3:Conv3x3"
    odd = True
    title = "convolutional merging"
    source = 'He et al., "Deep Residual Learning", 2016'
    kind: Literal["conv3"] = "conv3"
    activation: Annotated[Activation | None, Field(exclude_if=is_none)] = None


class QPool(Scaled, Halving):
    """Attention within mask units of `side` x `side` tokens, in which the largest of four neighbouring queries stands for them.

    What goes around the attention is projected, and the largest of four is taken as well. A norm stands in front of both.
    """

    module = "wb.models.merges.qpool:QPool"
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 3, "v": 5, "side": 4}
    title = "query pooling"
    source = 'Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", 2023'
    kind: Literal["qpool"] = "qpool"
    side: Annotated[int, Field(ge=2, le=64, multiple_of=2), Tile()] = 8
    eps: Eps = 1e-6
    scaled: Annotated[bool, Field(exclude_if=is_false)] = False  # what attention gives has a layer scale


class Bottleneck(Halving):
    """An inverted bottleneck that is added to nothing: to `mlp` channels, a depthwise convolution among them, and back.

    A `stride` of 1 keeps the sides of the picture. With `se` the hidden channels are gated.
    """

    module = "wb.models.merges.bottleneck:Bottleneck"
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9, "se": {"width": 5}}
    odd = True
    offered = False
    title = "merging by an inverted bottleneck"
    source = 'Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018'
    kind: Literal["bottleneck"] = "bottleneck"
    mlp: Annotated[Width, Dim("hidden units")]
    kernel: Annotated[Literal[3, 5, 7], Kernel()] = 3
    stride: Literal[1, 2] = 2
    activation: Activation = "relu"
    se: Annotated[Squeeze | None, Field(exclude_if=is_none)] = None

    def layout(self, before: Layout) -> Layout:
        return before if self.stride == 1 else super().layout(before)


class SeparableMerge(Halving):
    """A depthwise convolution with stride 2, an activation, and a 1x1 convolution; with `se` gates in front of that."""

    module = "wb.models.merges.separable:SeparableMerge"
    example: ClassVar[Mapping[str, Any]] = {"se": {"width": 5}}
    odd = True
    offered = False
    title = "merging by a separable convolution"
    source = 'Howard et al., "MobileNets", 2017'
    kind: Literal["separable"] = "separable"
    kernel: Annotated[Literal[3, 5, 7], Kernel()] = 3
    activation: Activation = "relu"
    se: Annotated[Squeeze | None, Field(exclude_if=is_none)] = None


class Point(Halving):
    """A map of each token to another width with a batch norm, and then what `activation` says; no tokens become one.

    With `pooled` the mean of all tokens is mapped, with a bias and no norm, and is the only token of the stage.
    """

    module = "wb.models.merges.point:Point"
    odd = True
    offered = False
    title = "change of width"
    source = 'Howard et al., "Searching for MobileNetV3", 2019'
    kind: Literal["point"] = "point"
    activation: Activation = "hardswish"
    pooled: bool = False

    def layout(self, before: Layout) -> Layout:
        return before._replace(shape=(1, 1)) if self.pooled else before


# From dear to cheap; spaces offer them in the opposite order.
Merge = Annotated[
    QPool | Conv3x3 | Overlapping | NormedMerge | NormedConv | Conv2x2 | Bottleneck | Dw3 | SeparableMerge | Point,
    Field(discriminator="kind"),
]
