"""A parent's pass over the images, beside that of the network that is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from wb.models.axes import Axes, Map, remap
from wb.models.layers.planes import as_tokens
from wb.models.network import Network
from wb.models.walk import State, Sublayer


@dataclass
class Lane:
    """One parent's pass over the images, its states by batch.

    `maps` lead from the parent's axes, under the fitted network's names, to those of the fitted network; `sublayers` maps a
    sub-layer of the fitted network, by name, to the parent's that matches it. The parent's other sub-layers run with these:
    `groups` has, by sub-layer of the fitted network, those of the parent that it stands for, in order of execution, `starts`
    and `ends` by stage what is run before the first and after the last of them.
    """

    share: float
    network: Network
    maps: Mapping[str, Map]
    sublayers: Mapping[str, Sublayer]
    groups: Mapping[str, Sequence[str]]
    starts: Mapping[int, Sequence[str]] = field(default_factory=dict)
    ends: Mapping[int, Sequence[str]] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)

    @property
    def streams(self) -> list[Tensor]:
        """The residual streams (b, N, D), batch by batch."""
        return [as_tokens(state.stream) for state in self.states]

    @property
    def entered(self) -> list[Tensor]:
        """The tokens that a stage began with (b, N, D), batch by batch, while nothing has been added to them."""
        return [as_tokens(self.network.wiring(state.stage).entered(state)) for state in self.states]

    def mapped(self, values: Tensor, axes: Axes) -> Tensor:
        """Activations (rows, sizes of `axes`), mapped to the fitted network's axes and flattened: (rows, features)."""
        return remap({"": values}, {"": (None, *axes)}, self.maps)[""].flatten(1)

    def run(self, group: Sequence[str]) -> None:
        """Runs every state through a group of sub-layers."""
        for _ in self.sums(group):
            pass

    def sums(self, group: Sequence[str]) -> Iterator[Tensor]:
        """The same one by one, with each stream before a norm behind the last sub-layer."""
        steps = [self.network.at(name) for name in group]
        for i, state in enumerate(self.states):
            total = state.stream
            for at in steps:
                given = at.contribution(state)
                total, state = state.stream + given, at.add(state, given)
            self.states[i] = state
            yield as_tokens(total)
