"""Feed-forwards: what is computed for every token by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from wb.core.records.base import Dim, Weighted, Width


class Mlp(Weighted):
    """Two linear layers with GELU between them."""

    module = "wb.models.ffns.mlp:Mlp"
    example: ClassVar[Mapping[str, Any]] = {"mlp": 9}
    title = "two-layer perceptron"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    kind: Literal["mlp"] = "mlp"
    mlp: Annotated[Width, Dim("hidden units")]


Ffn = Mlp  # becomes a union like Mixer with the second feed-forward
