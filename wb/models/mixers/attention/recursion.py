"""What blocks of a transformer that are run several times with the same weights have in common, as mixers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records.mixers.recursion import Recursion as Record
from wb.models.axes import read
from wb.models.layers.operator import OperatorModule, Symmetry


class Recursion(OperatorModule):
    """Attention and perceptrons, each behind a norm of its own; they are read and written within the block alone."""

    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "loop_mlp": "permutation",
    }
    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = ("embed",)
    record: Record
    bo: nn.Parameter

    def attends(self) -> None:
        """Declares the projections of attention."""
        for weight, bias, channels in (("wq", "bq", "qk"), ("wk", "bk", "qk"), ("wv", "bv", "v")):
            self.between(weight, "heads", channels, read("embed"))
            self.holds(bias, "heads", channels)
        self.between("wo", "embed", read("heads"), read("v"))
        self.holds("bo", "embed")

    def thinks(self, name: str, hidden: str) -> None:
        """Declares the perceptron of that name."""
        self.between(f"{name}_up", hidden, read("embed"))
        self.holds(f"{name}_up_bias", hidden)
        self.between(f"{name}_down", "embed", read(hidden))
        self.holds(f"{name}_down_bias", "embed")

    def norms(self, name: str) -> None:
        """Declares the norm in front of the step of that name."""
        self.holds(f"{name}_gain", "embed")
        self.holds(f"{name}_shift", "embed")

    @property
    def inside(self) -> tuple[str, ...]:
        """All that leads from the stream: it is normed in front of each."""
        return tuple(name for name in self.inner if read("embed") in self.axes[name])

    @property
    def scaling(self) -> tuple[str, ...]:
        """None that is on the stream."""
        return ()

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries."""
        return dict.fromkeys(("wq", "bq"), self.record.factor)

    def merged(self, heads: Tensor) -> Tensor:
        """What attention gives: (B, N, H * V) -> (B, N, D)."""
        return F.linear(heads, self.kept("wo").flatten(1), self.bo)

    def normed(self, y: Tensor, name: str) -> Tensor:
        """The stream in front of the step of that name."""
        gain, shift = getattr(self, f"{name}_gain"), getattr(self, f"{name}_shift")
        return F.layer_norm(y, gain.shape, gain, shift, self.record.eps)
