"""What a network is given."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from wb.core.records.base import Frozen, is_false
from wb.core.specs import Spec, image_spec


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


Input = ImageInput  # becomes a union like Mixer with the second
