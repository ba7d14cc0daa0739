"""What a network is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wb.core.records.base import Frozen, is_false
from wb.core.specs import Spec, image_spec, text_specs


class ImageInput(Frozen):
    """Images in [0, 1] of a fixed size; `mean` and `std` per channel are applied inside the network.

    A `mirrored` network also looks at the mirror image of each, and answers by the mean of both. It has no more weights, and
    takes twice as long.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", 2012, section 4.1.
    """

    kind: Literal["image"] = "image"
    channels: Annotated[int, Field(ge=1, le=64)]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...]
    mirrored: Annotated[bool, Field(exclude_if=is_false)] = False

    @property
    def views(self) -> int:
        """How many images the network looks at for each that it is given."""
        return 2 if self.mirrored else 1

    @property
    def moments(self) -> Mapping[str, tuple[float, ...]]:
        """What is done to values inside the network: `mean` and `std` per channel."""
        return {"mean": self.mean, "std": self.std}

    @property
    def usual(self) -> Self:
        """The input at the size that counts and latencies are of."""
        return self

    @property
    def usual_tokens(self) -> int | None:
        """The number of tokens of a run, where runs differ in it."""
        return None

    def specs(self) -> tuple[Spec, ...]:
        """The arrays that a network with this input takes."""
        return (image_spec(self.channels, self.height, self.width),)

    @model_validator(mode="after")
    def _lengths(self) -> ImageInput:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations for {self.channels} channels; give one each"
            )
        return self


class TextInput(Frozen):
    """Texts as ids of tokens, from a vocabulary of so many; a text has at most `length` of them, and a run may have fewer.

    What is computed for a text does not depend on the padding behind it. Multiply-accumulates and latency are those of a text
    of `tokens` tokens.
    """

    kind: Literal["text"] = "text"
    vocabulary: Annotated[int, Field(ge=2, le=1 << 20)]
    length: Annotated[int, Field(ge=1, le=1 << 15)]
    tokens: Annotated[int, Field(ge=1, le=1 << 15)]

    @property
    def views(self) -> int:
        """How often the network looks at a text."""
        return 1

    @property
    def moments(self) -> Mapping[str, tuple[float, ...]]:
        """Ids are no values that could be normalised."""
        return {}

    @property
    def usual(self) -> Self:
        """The input whose longest text has the length that counts and latencies are of."""
        return self.model_copy(update={"length": self.tokens})

    @property
    def usual_tokens(self) -> int | None:
        """The number of tokens of a run, where runs differ in it."""
        return self.tokens

    def specs(self) -> tuple[Spec, ...]:
        """The arrays that a network with this input takes."""
        return text_specs(self.vocabulary)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.tokens > self.length:
            raise ValueError(
                f"tokens={self.tokens}, which counts and latencies are of, are more than the longest text has, "
                f"length={self.length}; give fewer"
            )
        return self


Input = Annotated[ImageInput | TextInput, Field(discriminator="kind")]
