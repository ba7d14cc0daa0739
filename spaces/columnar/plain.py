"""Ordinary vision transformers as points of space `vit`: what others would try by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wb.core.records import Softmax, kind_of
from wb.core.space import Option

if TYPE_CHECKING:
    from wb.core.architecture import Architecture
    from wb.spaces.columnar.columns import Columnar

MIXER = kind_of(Softmax)


def plain(space: Columnar) -> dict[str, Architecture]:
    """A transformer for each width of the stream, such as `transformer-32`; none where the space has no softmax attention.

    Depth is the middle one, heads have as many channels together as the stream, or nearly, and everything else is the largest.
    """
    if MIXER not in space.options.mixer:
        return {}
    found = {}
    for embed in space.all_genes["embed"]:
        choices = {gene: _option(space, gene, int(embed)) for gene in space.genes}
        found[f"transformer-{embed}"] = space.decode(choices)
    return found


def _option(space: Columnar, gene: str, embed: int) -> Option:
    options, field = space.all_genes[gene], gene.rpartition(".")[2]
    if field == "heads":
        channels = int(space.all_genes[gene.replace("heads", "qk")][-1])
        return min(options, key=lambda heads: abs(int(heads) * channels - embed))
    chosen: dict[str, Option] = {"embed": embed, "mixer": MIXER, "depth": options[len(options) // 2]}
    return chosen.get(field, options[-1])
