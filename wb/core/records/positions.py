"""What tells tokens apart by their place, where no mixer does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import CAUSAL, Supports
from wb.core.records.base import Part, Tile


class Learned(Part):
    """One vector per token, prefix tokens included, added behind the stem."""

    module = "wb.models.positions.learned:Learned"
    supports = CAUSAL
    title = "learned positions"
    source = 'Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021'
    kind: Literal["learned"] = "learned"


class Sinusoid(Part):
    """Sines and cosines of the place among the stem's tokens, added behind the stem and never trained."""

    module = "wb.models.positions.sinusoid:Sinusoid"
    supports = CAUSAL
    title = "sinusoidal positions"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    kind: Literal["sinusoid"] = "sinusoid"


class Tiled(Part):
    """One vector per place of a coarse picture, enlarged to the tokens' picture, and one per place of a window, repeated.

    `places` are a side of the coarse picture, `window` one of the window, which is not larger than the picture of tokens.
    Prefix tokens get nothing.
    """

    module = "wb.models.positions.tiled:Tiled"
    supports = Supports(line=False)
    example: ClassVar[Mapping[str, Any]] = {"places": 3, "window": 2}
    title = "positions of windows and of the whole"
    source = 'Bolya et al., "Window Attention is Bugged: How not to Interpolate Position Embeddings", 2024'
    kind: Literal["tiled"] = "tiled"
    places: Annotated[int, Field(ge=1, le=256)] = 14
    window: Annotated[int, Field(ge=1, le=64), Tile()] = 8


class Nowhere(Part):
    """Nothing is added: tokens are told apart by what they hold, and by the mixers that know where they are."""

    module = "wb.models.positions.nowhere:Nowhere"
    supports = CAUSAL._replace(planes=("tokens", "map"))
    title = "no positions"
    kind: Literal["nowhere"] = "nowhere"


Position = Annotated[Learned | Sinusoid | Tiled | Nowhere, Field(discriminator="kind")]
