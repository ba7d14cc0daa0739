"""What brings the tokens that an operator reads to one scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import CAUSAL, Supports
from wb.core.records.base import Part

Eps = Annotated[float, Field(gt=0, le=1)]  # added to a variance


class LayerNorm(Part):
    """Mean zero and variance one over the channels of a token, then a gain and a shift per channel."""

    module = "wb.models.norms.layer:LayerNorm"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-5}
    title = "layer norm"
    source = 'Ba et al., "Layer Normalization", 2016'
    kind: Literal["layer"] = "layer"
    eps: Eps = 1e-6


class RmsNorm(Part):
    """Mean square one over the channels of a token, then a gain per channel."""

    module = "wb.models.norms.rms:RmsNorm"
    supports = CAUSAL
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-5}
    title = "RMS norm"
    source = 'Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019'
    kind: Literal["rms"] = "rms"
    eps: Eps = 1e-6


class BatchNorm(Part):
    """Mean zero and variance one over the examples and places of a channel, found once and fixed; then a gain and a shift."""

    module = "wb.models.norms.batch:BatchNorm"
    supports = Supports(planes=("tokens", "map"))
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-4}
    title = "batch norm"
    source = 'Ioffe and Szegedy, "Batch Normalization", 2015'
    kind: Literal["batch"] = "batch"
    eps: Eps = 1e-5


class RepNorm(Part):
    """A batch norm and, added to it, what it is given times one learned factor; both together are one factor and one shift."""

    module = "wb.models.norms.rep:RepNorm"
    supports = Supports(planes=("tokens", "map"))
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-4}
    title = "re-parameterized batch norm"
    source = 'Guo et al., "SLAB", 2024'
    kind: Literal["repbn"] = "repbn"
    eps: Eps = 1e-5


class GroupNorm(Part):
    """Mean zero and variance one over all channels of all tokens, one group, then a gain and a shift per channel."""

    module = "wb.models.norms.group:GroupNorm"
    supports = Supports(planes=("tokens", "map"))
    example: ClassVar[Mapping[str, Any]] = {"eps": 1e-4}
    title = "group norm of one group"
    source = 'Wu and He, "Group Normalization", 2018'
    kind: Literal["group1"] = "group1"
    eps: Eps = 1e-5


class Unnormed(Part):
    """No norm: what is read is the stream as it is."""

    module = "wb.models.norms.unnormed:Unnormed"
    supports = CAUSAL._replace(planes=("tokens", "map"))
    title = "no norm"
    kind: Literal["unnormed"] = "unnormed"


Norm = Annotated[LayerNorm | RmsNorm | BatchNorm | RepNorm | GroupNorm | Unnormed, Field(discriminator="kind")]
