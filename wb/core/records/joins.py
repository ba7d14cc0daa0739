"""How the output of an operator is joined to the residual stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import CAUSAL
from wb.core.records.base import Part, is_false, is_true

INIT = 1e-5  # of the paper for 24 blocks; it has 0.1 up to 18 blocks and 1e-6 beyond 24
SHUT = 2.0  # of the paper


class Joining(Part):
    """What all joins have: they look at tokens one by one, on whatever plane."""

    supports = CAUSAL._replace(planes=("tokens", "map"))

    @property
    def said(self) -> str:
        """What networks are told apart by in messages: its title, and what it is of."""
        return self.title


class Scale(Joining):
    """Every output times a learned factor, which begins at `init`: one per channel, or one for the whole sub-layer."""

    module = "wb.models.joins.scale:Scale"
    example: ClassVar[Mapping[str, Any]] = {"init": 0.1}
    title = "layer scale"
    source = 'Touvron et al., "Going deeper with Image Transformers" (CaiT), 2021'
    kind: Literal["scale"] = "scale"
    per: Literal["channel", "layer"] = "channel"
    init: Annotated[float, Field(ge=0, le=1)] = INIT

    @property
    def said(self) -> str:
        return f"{self.title} per {self.per}"

    def structure(self) -> Scale:
        """The record with the default `init`, which training changes anyway."""
        return self.model_copy(update={"init": INIT})


class Gru(Joining):
    """A gate per channel between the stream and what the operator gives, which both decide; it begins nearly shut.

    `shut` is what it begins with: the larger, the more of the stream is left as it is. With `relu` the output goes through one
    first. With `shifted` the maps in front of the reset gate and of the candidate have biases too.
    """

    module = "wb.models.joins.gru:Gru"
    example: ClassVar[Mapping[str, Any]] = {"shut": 1.0}
    title = "recurrent gate"
    source = 'Parisotto et al., "Stabilizing Transformers for Reinforcement Learning" (GTrXL), 2020'
    kind: Literal["gru"] = "gru"
    shut: Annotated[float, Field(ge=-10, le=10)] = SHUT
    relu: Annotated[bool, Field(exclude_if=is_true)] = True
    shifted: Annotated[bool, Field(exclude_if=is_false)] = False

    @property
    def said(self) -> str:
        behind = " behind a ReLU" if self.relu else ""
        return f"{self.title}{behind}{' with biases' if self.shifted else ''}"

    def structure(self) -> Gru:
        """The record with the default `shut`, which training changes anyway."""
        return self.model_copy(update={"shut": SHUT})


Join = Annotated[Scale | Gru, Field(discriminator="kind")]
