"""The sizes of a network as arguments of timm's, which gives all blocks of a stage the same and doubles widths between stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.records import Mlp
from wb.core.records.attention import Scaled
from wb.foreign.family import hidden_ratio, same


@dataclass(frozen=True)
class Sizes:
    """The width of the first stream, blocks and heads of every stage, and hidden units to a channel."""

    embed: int
    depths: Sequence[int]
    heads: Sequence[int]
    ratio: float


def sizes_of(a: Architecture, title: str, config: Mapping[str, Any]) -> Sizes:
    """The sizes of `a`; the ratio as `config` had it, if that gives the same.

    Raises:
        Unsupported: blocks of a stage differ, heads are not shares of the stream, or widths do not double.
    """
    embeds = [stage.embed for stage in a.stages]
    if any(embed != embeds[0] * 2**i for i, embed in enumerate(embeds)):
        raise Unsupported(f"{title} doubles its width from stage to stage, and this network has {_listed(embeds)}")
    heads = []
    for i, stage in enumerate(a.stages):
        parts = [part for _, part in a.stage_parts(i) if isinstance(part, Scaled)]
        for part in parts:
            if part.heads * part.v != stage.embed or part.qk != part.v:
                raise Unsupported(
                    f"{title} divides the {stage.embed} channels of its stream among its heads, and this network has "
                    f"{part.heads} of {part.qk} query/key and {part.v} value channels"
                )
        heads.append(same((part.heads for part in parts), "heads in a stage", title))
    ffns = [(stage.embed, ffn.mlp) for _, stage, block in a.blocks() if isinstance(ffn := block.ffn, Mlp)]
    arguments = config.get("model_args")
    came = arguments.get("mlp_ratio") if isinstance(arguments, dict) else None
    return Sizes(embeds[0], [len(stage.blocks) for stage in a.stages], heads, hidden_ratio(ffns, title, came))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
