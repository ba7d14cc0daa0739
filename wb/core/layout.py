"""How the tokens of a stage lie, and which layouts an operator computes correctly."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Plane = Literal["tokens", "map"]  # (B, N, D), or (B, D, rows, columns) as convolutions want it
_PLANES: dict[Plane, str] = {"tokens": "tokens", "map": "maps"}


class Supports(NamedTuple):
    """The layouts that an operator computes correctly. An architecture that asks for another is refused when it is made."""

    line: bool = True
    grid: bool = True
    prefix: bool = True  # tokens in front that have no place, a class token for example
    padded: bool = False  # padding changes no token that counts
    causal: Literal["no", "yes", "only"] = "no"  # "yes": can look back only; "only": can do nothing else
    dynamic: bool = False  # fewer tokens than it was built for, by the same function
    planes: tuple[Plane, ...] = ("tokens",)  # how its input may be stored


RAGGED = Supports(padded=True, dynamic=True)  # of what leaves padding out
CAUSAL = RAGGED._replace(causal="yes")  # of what can look back only too, or computes for each token by itself


class Layout(NamedTuple):
    """The tokens of a stage: `shape` is (longest,) of a line and (rows, columns) of a picture."""

    shape: tuple[int, ...]
    prefix: int = 0  # tokens in front without a place
    causal: bool = False  # a token sees itself and what comes before it
    padded: bool = False  # a run brings a mask of the tokens that count
    dynamic: bool = False  # a run may have fewer tokens than `tokens`
    plane: Plane = "tokens"  # how the stage stores them

    @property
    def tokens(self) -> int:
        """N, the most tokens of one example."""
        return self.prefix + math.prod(self.shape)

    def tile(self, side: int) -> int:
        """The side of the squares that a picture is cut into where at most `side` is wanted: a smaller picture's own."""
        return min(side, *self.shape)

    def tiled(self, side: int) -> bool:
        """Whether a picture can be cut into such squares."""
        return all(length % self.tile(side) == 0 for length in self.shape)

    def refused(self, supports: Supports) -> str | None:
        """What an operator lacks for this layout, in words; None where it lacks nothing."""
        line = len(self.shape) == 1
        order = "in their order" if supports.line else "as an image"
        lacks = {
            "reads the tokens as an image, which a line of tokens is not": line and not supports.line,
            "reads the tokens as a line, which an image is not": not line and not supports.grid,
            f"reads the tokens {order}, where a class token has no place": self.prefix > 0 and not supports.prefix,
            "cannot leave out padding": self.padded and not supports.padded,
            "sees the tokens that follow": self.causal and supports.causal == "no",
            "sees no tokens that follow": not self.causal and supports.causal == "only",
            "is made for one number of tokens": self.dynamic and not supports.dynamic,
            f"does not compute on {_PLANES[self.plane]}": self.plane not in supports.planes,
        }
        return next((words for words, lacking in lacks.items() if lacking), None)
