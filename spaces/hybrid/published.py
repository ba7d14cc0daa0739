"""Published networks as points of space `hybrid`: for each stage what its blocks are, with the nearest sizes that it offers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from wb.core.errors import BadOption
from wb.core.space import Option

if TYPE_CHECKING:
    from wb.core.architecture import Architecture
    from wb.spaces.hybrid.options import HybridOptions
    from wb.spaces.hybrid.space import Hybrid

Wanted = Mapping[str, Option | tuple[str, ...]]
_CONV: Wanted = {"ffn": "inverted", "mid": 0, "ratio": 4, "act": "gelu"}
_MOBILE: Wanted = {"mixer": "none", "ffn": "inverted", "mid": 3, "ratio": 4, "merge": "dw3"}
_VIT: Wanted = {"ffn": "inverted", "mid": 0, "ratio": 4, "act": ("gelu", "silu", "relu")}

# Of every stage, and of the last one where it differs. Widths and depths are the middle ones of what the space offers. Of several
# names a stage has the first that it offers, and some stage has the first mixer of all.
PUBLISHED: Mapping[str, tuple[Wanted, Wanted]] = {
    "mobilenet": (_MOBILE, {}),  # V2
    "mobilenetv3": ({**_MOBILE, "se": 0.25, "act": ("hardswish", "silu", "relu")}, {}),
    "repvit": ({"mixer": "depthwise", "kernel": 3, "ffn": "inverted", "mid": 0, "ratio": 2, "merge": "dw3"}, {}),
    "convnext": ({"mixer": "depthwise", "kernel": 7, "merge": "conv", **_CONV}, {}),
    "poolformer": ({"mixer": "pool", "merge": "conv3", **_CONV}, {}),
    "resnet": ({"mixer": "none", "ffn": ("basic", "fused"), "ratio": 2, "merge": "conv3"}, {}),
    "coatnet": ({"mixer": "none", "ffn": "inverted", "mid": 3, "ratio": 4, "merge": "dw3"}, {"mixer": "softmax"}),
    # A picture that one window holds has attention among all of its tokens; the first stages are maps, as in CoAtNet.
    "swin": ({"mixer": ("window", "softmax", "depthwise"), "merge": ("conv", "conv3"), **_VIT}, {}),
    "hiera": ({"mixer": ("mask", "softmax", "depthwise"), "merge": ("qpool", "conv3"), **_VIT}, {}),  # and TurboViT
}
USUAL = ("resnet", "repvit", "mobilenet")
_WIDTHS = ("embed", "stem_width")  # genes
_PLACES = {"wide": 1.0, "middle": 0.5, "narrow": 0.0}


def offered(options: HybridOptions) -> tuple[str, ...]:
    """The published networks that a space with these options has."""
    found = []
    for name in PUBLISHED:
        with suppress(BadOption):
            _chosen(options, name)
            found.append(name)
    return tuple(found)


def nearest(space: Hybrid, name: str) -> Architecture:
    """The network of the space that is nearest to the published one.

    Raises:
        BadOption: the space does not offer what makes that network; says which options do.
    """
    chosen = _chosen(space.options, name)
    return space.decode({gene: chosen[gene] for gene in space.genes})


def regular(space: Hybrid) -> dict[str, Architecture]:
    """The published networks that the space offers at its greatest, middle and least widths, by name and width.

    Source: Radosavovic et al., "Designing Network Design Spaces", 2020: networks whose stages are alike are seldom bad ones.
    """
    names = sorted(offered(space.options), key=lambda name: USUAL.index(name) if name in USUAL else len(USUAL))
    found = {}
    for width, place in _PLACES.items():
        for name in names:
            chosen = _chosen(space.options, name, place)
            found[f"{name}, {width}"] = space.decode({gene: chosen[gene] for gene in space.genes})
    return found


def _chosen(options: HybridOptions, name: str, place: float = 0.5) -> dict[str, Option]:
    """The options that make that network, of widths from the least at `place` 0 to the greatest at 1.

    Raises:
        BadOption: some are not offered.
    """
    every, last = PUBLISHED[name]
    final = f"s{len(options.stages) - 1}"
    chosen: dict[str, Option] = {}
    missing: dict[str, str] = {}
    for gene, values in options.choices.items():
        stage, _, field = gene.rpartition(".")
        middle = values[min(int(len(values) * (place if field in _WIDTHS else 0.5)), len(values) - 1)]
        wanted = {"se": 0, **every, **(last if stage == final else {})}.get(field, middle)
        if isinstance(wanted, int | float):
            chosen[gene] = min(values, key=lambda value: abs(float(value) - float(wanted)))
            continue
        names = (wanted,) if isinstance(wanted, str) else wanted
        chosen[gene] = next((one for one in names if one in values), names[0])
        if chosen[gene] not in values:
            missing[gene] = names[0]
    if every.get("se") and not any(value for gene, value in chosen.items() if gene.endswith(".se")):
        missing["se"] = str(every["se"])
    first = every["mixer"][0] if isinstance(every["mixer"], tuple) else None
    if first and first not in [value for gene, value in chosen.items() if gene.endswith(".mixer")]:
        missing[f"{final}.mixer"] = first
    if missing:
        gene, value = next(iter(missing.items()))
        wider = [
            f"--set {gene}={','.join(map(str, (*options.choices.get(gene, (0,)), value)))}"
            for gene, value in missing.items()
        ]
        raise BadOption(
            f"the space does not offer {gene}={value!r}, which makes a {name} network; widen it with {' '.join(wider)}, or "
            "choose another preset (see `wb spaces`)"
        )
    return chosen
