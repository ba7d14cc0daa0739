"""What a network takes, and the graph that is exported from it: one `Spec` for each array."""

from __future__ import annotations

from typing import NamedTuple

PIXELS = "pixel_values"  # the array of images
BATCH = "batch"  # the dynamic axis in front of every array


class Spec(NamedTuple):
    """One array: its name, numpy's name of its type, and its shape.

    Axes that are dynamic have a name instead of a size: `("batch", 3, 224, 224)`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    @property
    def example(self) -> tuple[int | str, ...]:
        """The shape of one example: without the batch."""
        return self.shape[1:]

    @property
    def text(self) -> str:
        """The shape of one example for people: `3x224x224`."""
        return "x".join(map(str, self.example))

    def sized(self, batch: int) -> tuple[int, ...]:
        """The shape of `batch` examples."""
        return (batch, *map(int, self.example))


def image_spec(channels: int, height: int, width: int) -> Spec:
    """Images (batch, channels, height, width), float32 in [0, 1]."""
    return Spec(PIXELS, "float32", (BATCH, channels, height, width))
