"""Mixers: what moves information between tokens. Here is their union; families of several have a file of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wb.core.layout import RAGGED, Supports
from wb.core.records.attention import (
    Combiner,
    Cosformer,
    Grouped,
    Hash,
    Linear,
    MaskUnit,
    Relative,
    Rotary,
    Scored,
    Sla,
    Sliding,
    Softmax,
    Window,
)
from wb.core.records.base import Dim, Filtered, Kernel, Operator, Width
from wb.core.records.mixers.memory import S6 as S6
from wb.core.records.mixers.memory import Atlas, Bmojo, SpikingLmu, Titans
from wb.core.records.mixers.memory import Lmu as Lmu
from wb.core.records.mixers.recursion import Looped, Sliced
from wb.core.records.mixers.sparse import AxialCombiner, Latents, LogCombiner, Prototypes, Scales


class Pool(Operator):
    """PoolFormer's token mixer: average of the neighbours minus the token."""

    module = "wb.models.mixers.maps.pool:PoolMixer"
    supports = Supports(line=False, prefix=False, planes=("tokens", "map"))
    title = "average pooling"
    source = 'Yu et al., "MetaFormer Is Actually What You Need for Vision", 2022'
    kind: Literal["pool"] = "pool"
    kernel: Literal[3, 5, 7, 9] = 3


class Performer(Scored):
    """Performer's FAVOR+: softmax attention estimated by `features` positive random features of queries and keys.

    `scale` multiplies the scores that are estimated. `form` "official" is the published PyTorch code, whose keys share one
    largest exponent in a whole batch, so that what a network gives depends on what else it is given; it is for comparing.
    """

    module = "wb.models.mixers.linear.performer:PerformerAttention"
    supports = RAGGED
    example: ClassVar[Mapping[str, Any]] = {"heads": 2, "qk": 4, "v": 6, "features": 9}
    title = "Performer attention"
    source = 'Choromanski et al., "Rethinking Attention with Performers", 2021'
    kind: Literal["performer"] = "performer"
    features: Annotated[Width, Dim("random features", scored=False, aligned=False)] = 64
    scale: Annotated[float, Field(gt=0, le=1e6)] | None = None
    form: Annotated[Literal["alone", "official"], Field(exclude_if=lambda form: form == "alone")] = "alone"


class Depthwise(Filtered):
    """Every channel is convolved with a filter of its own, with a 1x1 branch beside it in training."""

    module = "wb.models.mixers.maps.depthwise:Depthwise"
    title = "depthwise convolution"
    source = 'Wang et al., "RepViT: Revisiting Mobile CNN From ViT Perspective", 2024'
    kind: Literal["depthwise"] = "depthwise"
    kernel: Annotated[Literal[3, 5, 7], Kernel()] = 3


# From dear to cheap; spaces offer them in the opposite order, and report pages give them their colours in this one.
Mixer = Annotated[
    Rotary
    | Relative
    | Sliced
    | Looped
    | Prototypes
    | Atlas
    | Titans
    | Bmojo
    | S6
    | SpikingLmu
    | LogCombiner
    | Softmax
    | AxialCombiner
    | Latents
    | Combiner
    | Sliding
    | Grouped
    | Window
    | Scales
    | MaskUnit
    | Sla
    | Linear
    | Cosformer
    | Performer
    | Lmu
    | Depthwise
    | Pool
    | Hash,
    Field(discriminator="kind"),
]
