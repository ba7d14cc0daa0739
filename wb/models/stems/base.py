"""The base of stem modules, which make tokens of an input."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from wb.core.records import Stem
from wb.models.layers.operator import PartModule


class StemModule(PartModule):
    """Images (B, channels, height, width) -> tokens in their places (B, D, rows, columns); ids (B, N) -> tokens (B, N, D).

    It is built as `Class(record, input, embed, device)`. Final subclasses live in one file each.
    """

    fitted: tuple[str, str] | None = None
    """The last linear map and its bias, if something non-linear stands in front of it; `inputs` gives what it reads."""

    def describe(self) -> Stem:
        """The record of this module, read off its parameters."""
        raise NotImplementedError

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs of the `fitted` map: (B, channels, height, width) -> (B, rows * columns, features)."""
        raise NotImplementedError

    def unpadded(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """A batch as `forward` takes it, and which of its tokens count (B, N); None where all do."""
        return x, None

    def absorbed(self, weights: Mapping[str, Tensor], scale: Tensor, shift: Tensor) -> dict[str, Tensor] | None:
        """`weights` by local names, changed so that x gives what `scale * x + shift` gave; both (channels), float64.

        None if no weights do that.
        """
        return None
