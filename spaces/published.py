"""Published networks as points of space `hybrid`: for each stage what its blocks are, with the nearest sizes that it offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from wb.core.errors import BadOption
from wb.core.space import Option

if TYPE_CHECKING:
    from wb.core.architecture import Architecture
    from wb.spaces.hybrid import Hybrid

Wanted = Mapping[str, Option]

# Of every stage, and of the last one where it differs. Widths and depths are the middle ones of what the space offers.
PUBLISHED: Mapping[str, tuple[Wanted, Wanted]] = {
    "mobilenet": ({"mixer": "none", "ffn": "inverted", "mid": 3, "ratio": 4, "merge": "dw3"}, {}),  # V2, V3 without SE
    "repvit": ({"mixer": "depthwise", "kernel": 3, "ffn": "inverted", "mid": 0, "ratio": 2, "merge": "dw3"}, {}),
    "convnext": (
        {"mixer": "depthwise", "kernel": 7, "ffn": "inverted", "mid": 0, "ratio": 4, "act": "gelu", "merge": "conv"},
        {},
    ),
    "poolformer": ({"mixer": "pool", "ffn": "inverted", "mid": 0, "ratio": 4, "act": "gelu", "merge": "conv3"}, {}),
    "resnet": ({"mixer": "none", "ffn": "fused", "ratio": 1, "merge": "conv3"}, {}),
    "coatnet": ({"mixer": "none", "ffn": "inverted", "mid": 3, "ratio": 4, "merge": "dw3"}, {"mixer": "softmax"}),
}
USUAL = "resnet"


def nearest(space: Hybrid, name: str) -> Architecture:
    """The network of the space that is nearest to the published one.

    Raises:
        BadOption: the space does not offer what makes that network; says which option does.
    """
    every, last = PUBLISHED[name]
    count = len(space.options.stages)
    choices: dict[str, Option] = {}
    for gene, options in space.genes.items():
        place, _, field = gene.rpartition(".")
        wanted = {**every, **(last if place == f"s{count - 1}" else {})}.get(field, options[len(options) // 2])
        if wanted in options:
            choices[gene] = wanted
        elif isinstance(wanted, str):
            raise BadOption(
                f"the space does not offer {gene}={wanted!r}, which makes a {name} network; widen it with --set "
                f"{gene}={','.join(map(str, (*options, wanted)))}"
            )
        else:
            choices[gene] = min(options, key=lambda option: abs(float(option) - float(wanted)))
    return space.decode(choices)
