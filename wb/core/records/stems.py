"""How an input becomes tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from wb.core.layout import Layout
from wb.core.records.base import Activation, ConvKept, Dim, Frozen, Group, Part, Width, is_fp32, is_none, is_zero
from wb.core.records.inputs import ImageInput, Input, TextInput


class ImageStem(Part):
    """What cuts images into patches: `patch` pixels a side become one token."""

    patch: int
    precision: ConvKept = "fp32"

    def layout(self, given: Input, prefix: int = 0) -> Layout:
        """The tokens of the first stage. Raises `ValueError` for what cannot be cut so."""
        rows, columns = self.sides
        if not isinstance(given, ImageInput):
            raise ValueError(f"a stem that cuts images into patches is given {given.kind}; use stem 'lookup'")
        if given.height % rows or given.width % columns:
            raise ValueError(
                f"images of {given.height}x{given.width} cannot be cut into patches of "
                f"{rows if rows == columns else f'{rows}x{columns}'}; choose a patch that divides "
                f"{math.gcd(given.height, given.width)}"
            )
        return Layout((given.height // rows, given.width // columns), prefix)

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of pixels of a patch."""
        return self.patch, self.patch

    @property
    def cut(self) -> str:
        """How it cuts images, in words."""
        return f"patch {self.patch}"


class PatchStem(ImageStem):
    """A linear map of each patch to a token: of `patch` rows and, unless `columns` says otherwise, as many columns of pixels.

    With a `kernel` each token sees that many rows and columns of pixels, with zeros for `padding` pixels around the image, so
    that patches overlap; there are as many tokens as there were without. A norm behind it is the network's `first`.
    """

    module = "wb.models.stems.patch:PatchStem"
    example: ClassVar[Mapping[str, Any]] = {"patch": 2}
    title = "linear patches"
    source = 'Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021'
    kind: Literal["patch"] = "patch"
    patch: Annotated[int, Field(ge=1, le=64)]
    columns: Annotated[int | None, Field(ge=1, le=4096, exclude_if=is_none)] = None
    kernel: Annotated[int | None, Field(ge=1, le=64, exclude_if=is_none)] = None
    padding: Annotated[int, Field(ge=0, le=32, exclude_if=is_zero)] = 0

    @model_validator(mode="after")
    def _one_token_a_patch(self) -> PatchStem:
        kernel = self.kernel or self.patch
        if self.kernel is not None and self.columns is not None:
            raise ValueError(
                f"columns={self.columns} are of patches that do not overlap; leave out kernel={self.kernel}"
            )
        if not kernel - self.patch <= 2 * self.padding < kernel:
            raise ValueError(
                f"a kernel of {kernel} with padding={self.padding} and a stride of patch={self.patch} does not give one token "
                "for each patch; that takes kernel - patch <= 2 * padding < kernel"
            )
        return self

    @property
    def sides(self) -> tuple[int, int]:
        return self.patch, self.columns or self.patch

    @property
    def cut(self) -> str:
        words = f"patch {self.patch}x{self.columns}" if self.columns else super().cut
        return f"{words}, kernel {self.kernel} with padding {self.padding}" if self.kernel else words


class ConvStem(ImageStem):
    """3x3 convolutions of `width` channels with GroupNorm and GELU, then a 2x2 convolution with stride 2.

    `patch` is the total stride, a power of two from 2.
    """

    module = "wb.models.stems.conv:ConvStem"
    example: ClassVar[Mapping[str, Any]] = {"patch": 2, "width": 5}
    title = "convolutional stem"
    source = 'Xiao et al., "Early Convolutions Help Transformers See Better", 2021'
    kind: Literal["conv"] = "conv"
    patch: Literal[2, 4, 8, 16, 32]
    width: Annotated[Width, Dim("width of the stem", squared=True)]


class MobileStem(ImageStem):
    """A dense 3x3 convolution of `width` channels with ReLU, and a 1x1 one to the stream; a batch norm behind each.

    The first has stride 2 unless `patch` is 1; each further factor of two is a depthwise convolution with stride 2.
    """

    module = "wb.models.stems.mobile:MobileStem"
    example: ClassVar[Mapping[str, Any]] = {"patch": 2, "width": 5}
    title = "convolutional stem with batch norms"
    source = 'Howard et al., "MobileNets", 2017'
    kind: Literal["mobile"] = "mobile"
    patch: Literal[1, 2, 4, 8, 16, 32]
    width: Annotated[Width, Dim("width of the stem")]


class Separable(Frozen):
    """A depthwise convolution, an activation and a 1x1 convolution, a batch norm behind each, of what they are added to."""

    kernel: Literal[3, 5, 7] = 3
    activation: Activation = "relu"


class SingleStem(ImageStem):
    """A dense 3x3 convolution to the stream, whose stride is the patch, a batch norm, and then an activation.

    What `separable` makes of that is added to it.
    """

    module = "wb.models.stems.single:SingleStem"
    example: ClassVar[Mapping[str, Any]] = {"patch": 2, "separable": {}}
    title = "one convolution with a batch norm"
    source = 'Howard et al., "Searching for MobileNetV3", 2019'
    kind: Literal["single"] = "single"
    patch: Literal[1, 2]
    activation: Activation = "hardswish"
    separable: Annotated[Separable | None, Field(exclude_if=is_none)] = None


class EmbedStem(Part):
    """A table with one vector for each token of the vocabulary.

    Of so many `types` of segments each has a vector too, as in BERT; texts are all of the first, whose vector is added to each.
    """

    module = "wb.models.stems.embed:EmbedStem"
    patch: ClassVar[int] = 1  # a token of the text is one of the network
    sides: ClassVar[tuple[int, int]] = (1, 1)
    title = "token embeddings"
    source = 'Bengio et al., "A Neural Probabilistic Language Model", 2003'
    kind: Literal["lookup"] = "lookup"
    types: Annotated[int, Field(ge=0, le=64, exclude_if=is_zero)] = 0
    precision: Annotated[Literal["fp32"], Field(exclude_if=is_fp32), Group()] = "fp32"

    def layout(self, given: Input, prefix: int = 0) -> Layout:
        """The tokens of the first stage: a line, of which a run may have less, with padding. Raises `ValueError` for images."""
        if not isinstance(given, TextInput):
            raise ValueError(f"stem 'lookup' looks up ids of tokens, and is given {given.kind}; use a stem of images")
        return Layout((given.length,), prefix, padded=True, dynamic=True)

    @property
    def cut(self) -> str:
        """What it makes tokens of, in words."""
        return "token ids"


ImageStems = PatchStem | ConvStem | MobileStem | SingleStem
Stem = Annotated[ImageStems | EmbedStem, Field(discriminator="kind")]
