"""What a network takes, and the graph that is exported from it: one `Spec` for each array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PIXELS = "pixel_values"  # the array of images
IDS, MASK = "input_ids", "attention_mask"  # the arrays of texts
BATCH = "batch"  # the dynamic axis in front of every array
TOKENS = "tokens"  # the dynamic axis of what a run may have more or fewer of
NO_LABEL = -1  # where no token follows that is to be foreseen
IN_FRONT = (
    "padding stands in front of a text, or within it, where it moves the places of tokens, so that the network gives other "
    "numbers; put it behind: the mask is 1 at the tokens of a text and 0 behind them"
)
PAST, TOTAL = "past", "total"  # of graphs that continue a text: the tokens before, and all with those of the run


class Spec(NamedTuple):
    """One array: its name, numpy's name of its type, and its shape.

    Axes that are dynamic have a name instead of a size: `("batch", 3, 224, 224)`. Integers are from 0 and `below` that.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    below: int | None = None

    @property
    def example(self) -> tuple[int | str, ...]:
        """The shape of one example: without the batch."""
        return self.shape[1:]

    @property
    def text(self) -> str:
        """The shape of one example for people: `3x224x224`, `tokens below 3000`."""
        shape = "x".join(map(str, self.example))
        return shape if self.below is None else f"{shape} below {self.below}"

    @property
    def dynamic(self) -> dict[int, str]:
        """The axes without a size of their own -> their names."""
        return {i: axis for i, axis in enumerate(self.shape) if isinstance(axis, str)}

    def sized(self, batch: int, tokens: int) -> tuple[int, ...]:
        """The shape of `batch` examples, with `tokens` for the axis of that name."""
        return (batch, *(tokens if axis == TOKENS else int(axis) for axis in self.example))


def fits(given: Sequence[Spec], taken: Sequence[Spec]) -> bool:
    """Whether arrays are such as are taken: the same, with integers below no more; tables may have rows that no id has."""
    if [one._replace(below=None) for one in given] != [one._replace(below=None) for one in taken]:
        return False
    return all((one.below or 0) <= (other.below or 0) for one, other in zip(given, taken, strict=True))


def image_spec(channels: int, height: int, width: int) -> Spec:
    """Images (batch, channels, height, width), float32 in [0, 1]."""
    return Spec(PIXELS, "float32", (BATCH, channels, height, width))


def text_specs(vocabulary: int) -> tuple[Spec, Spec]:
    """Token ids (batch, tokens), and a mask that is 1 at those that count and 0 at padding, both int64."""
    return Spec(IDS, "int64", (BATCH, TOKENS), vocabulary), Spec(MASK, "int64", (BATCH, TOKENS), 2)
