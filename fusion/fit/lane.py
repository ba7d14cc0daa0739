"""A parent's pass over the images, beside the fused network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from wb.fusion.fit.merge import Aligned
from wb.models.axes import Axes, remap
from wb.models.network import Network
from wb.models.planes import as_tokens
from wb.models.walk import State


@dataclass
class Lane:
    """One parent's pass over the images: its network, its sub-layers by those of the fused network, its states by batch."""

    aligned: Aligned
    share: float
    network: Network
    starts: dict[int, list[str]]
    groups: dict[str, list[str]]
    states: list[State] = field(default_factory=list)

    @property
    def streams(self) -> list[Tensor]:
        """The residual streams (b, N, D), batch by batch."""
        return [as_tokens(state.stream) for state in self.states]

    def mapped(self, values: Tensor, axes: Axes) -> Tensor:
        """Activations (rows, sizes of `axes`), mapped to the fused network's axes and flattened: (rows, features)."""
        return remap({"": values}, {"": (None, *axes)}, self.aligned.maps)[""].flatten(1)

    def run(self, group: Sequence[str]) -> list[Tensor]:
        """Runs every state through a group of sub-layers; returns each stream before a norm behind the last of them."""
        sums = []
        steps = [self.network.at(name) for name in group]
        for i, state in enumerate(self.states):
            total = state.stream
            for at in steps:
                given = at.contribution(state)
                total, state = state.stream + given, at.add(state, given)
            self.states[i] = state
            sums.append(as_tokens(total))
        return sums
