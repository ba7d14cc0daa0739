"""A stage of an architecture, and its blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from wb.core.checks import MAX_BLOCKS
from wb.core.layout import Plane
from wb.core.records import Dim, Ffn, Frozen, Join, Merge, Mixer, Norm, Operator, Pre, Width, Wiring
from wb.core.records.base import is_none
from wb.core.records.wirings import path_of


def is_tokens(plane: str) -> bool:
    """Whether a plane is left out of the JSON, as it was before there were maps."""
    return plane == "tokens"


class Block(Frozen):
    """A mixer, then a feed-forward, each with a norm and added to the stream as the stage is wired.

    Either may be missing, its norm with it; a block without both is switched off. Without a `norm` of its own it has the
    network's. Without a `join` the outputs of both are added as they are.
    """

    mixer: Mixer | None = None
    ffn: Ffn | None = None
    norm: Annotated[Norm | None, Field(exclude_if=is_none)] = None
    join: Annotated[Join | None, Field(exclude_if=is_none)] = None

    @property
    def off(self) -> bool:
        """Whether the block is the identity."""
        return self.mixer is None and self.ffn is None

    def parts(self) -> Iterator[tuple[Literal["mixer", "ffn"], Operator]]:
        """The mixer and the feed-forward by name, those that are there."""
        if self.mixer is not None:
            yield "mixer", self.mixer
        if self.ffn is not None:
            yield "ffn", self.ffn


class Stage(Frozen):
    """Blocks on one residual stream of `embed` channels, wired to it one like the other.

    `merge` makes the tokens of the stage out of those of the stage before; the first stage has none. `plane` is how the
    stage stores its tokens: convolutions want a map.
    """

    embed: Annotated[Width, Dim("residual stream", late=2)]
    blocks: Annotated[tuple[Block, ...], Field(max_length=MAX_BLOCKS)]
    merge: Annotated[Merge | None, Field(exclude_if=is_none)] = None
    wiring: Wiring = Pre()
    plane: Annotated[Plane, Field(exclude_if=is_tokens)] = "tokens"

    @property
    def paths(self) -> tuple[int, ...]:
        """The numbers of its paths (`wb.core.records.wirings.Ensemble`): what comes in, and the sub-layers that are there."""
        return (0, *(path_of(j, kind) for j, block in enumerate(self.blocks) for kind, _ in block.parts()))

    def alone(self, block: int, kind: str | None = None) -> Stage:
        """The same with that block only, or its "mixer" or "ffn", wired as one that has what is before it in front."""
        before = sum(path < path_of(block, kind or "mixer") for path in self.paths)
        own = self.blocks[block]
        kept = (
            own
            if kind is None
            else Block.model_validate({kind: getattr(own, kind), "norm": own.norm, "join": own.join})
        )
        return self.model_copy(update={"blocks": (kept,), "wiring": self.wiring.behind(before)})

    def compact(self) -> Stage:
        """The same without the blocks that are switched off."""
        left = [j for j, block in enumerate(self.blocks) if not block.off]
        blocks = tuple(self.blocks[j] for j in left)
        return self.model_copy(update={"blocks": blocks, "wiring": self.wiring.of_blocks(left)})
