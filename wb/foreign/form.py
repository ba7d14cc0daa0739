"""How a tensor of theirs holds the numbers of one of ours: `h k d -> (h k) d`, in the words of einops.

Source: Rogozhnikov, "Einops: Clear and Reliable Tensor Manipulations with Einstein-like Notation", 2022.
Differs: only what has an exact inverse: dimensions change places, are joined, or are put in with length one. A dimension
of ours that theirs do not have repeats their numbers, as `h k -> k`; there is a way back where all of ours are the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from wb.core.errors import Unsupported

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """Our dimensions, and theirs, each of which is several of ours in a row; a dimension of theirs of length one is of none.

    Ours that are not among theirs are `repeated`; they stand in front.
    """

    ours: tuple[str, ...]
    theirs: tuple[tuple[str, ...], ...]

    def shape(self, ours: Shape) -> Shape:
        """The shape of theirs, of that of ours."""
        sizes = dict(zip(self.ours, ours, strict=True))
        return tuple(math.prod(sizes[name] for name in joined) for joined in self.theirs)

    def to_theirs(self, ours: Tensor) -> Tensor:
        """Their tensor, of ours. Raises `Unsupported` where ours are not the same along dimensions that repeat theirs."""
        for _ in self.repeated:
            if not bool((ours == ours[:1]).all()):
                raise Unsupported("the format has one set of gains for all heads, and this network has several")
            ours = ours[0]
        return ours.permute(self._order()).reshape(self.shape((1,) * len(self.repeated) + tuple(ours.shape)))

    def to_ours(self, theirs: Tensor, shape: Shape) -> Tensor:
        """Our tensor of that shape, of theirs; a view unless dimensions change places."""
        order, own = self._order(), shape[len(self.repeated) :]
        turned = theirs.reshape([own[i] for i in order])
        return turned.permute([order.index(i) for i in range(len(order))]).expand(shape).contiguous()

    @property
    def repeated(self) -> tuple[str, ...]:
        """Our dimensions along which theirs are repeated."""
        named = {name for joined in self.theirs for name in joined}
        return tuple(name for name in self.ours if name not in named)

    def _order(self) -> list[int]:
        """Our other dimensions in the order in which theirs have them."""
        own = self.ours[len(self.repeated) :]
        return [own.index(name) for joined in self.theirs for name in joined]


@cache
def form(text: str) -> Form:
    """The form that a text says: `d -> 1 1 d`."""
    ours, theirs = text.split("->")
    groups = (group.strip("()").split() for group in re.findall(r"\([^)]*\)|\S+", theirs))
    return Form(tuple(ours.split()), tuple(tuple(name for name in group if name != "1") for group in groups))
