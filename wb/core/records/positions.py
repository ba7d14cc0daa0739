"""What tells tokens apart by their place, where no mixer does."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from wb.core.layout import Supports
from wb.core.records.base import Part


class Learned(Part):
    """One vector per token, prefix tokens included, added behind the stem."""

    module = "wb.models.positions.learned:Learned"
    title = "learned positions"
    source = 'Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021'
    kind: Literal["learned"] = "learned"


class Sinusoid(Part):
    """Sines and cosines of the place among the stem's tokens, added behind the stem and never trained."""

    module = "wb.models.positions.sinusoid:Sinusoid"
    title = "sinusoidal positions"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    kind: Literal["sinusoid"] = "sinusoid"


class Nowhere(Part):
    """Nothing is added: tokens are told apart by what they hold, and by the mixers that know where they are."""

    module = "wb.models.positions.nowhere:Nowhere"
    supports = Supports(planes=("tokens", "map"))
    title = "no positions"
    kind: Literal["nowhere"] = "nowhere"


Position = Annotated[Learned | Sinusoid | Nowhere, Field(discriminator="kind")]
