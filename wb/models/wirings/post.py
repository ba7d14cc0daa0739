"""Post-norm, as in BERT.

Source: Vaswani et al., "Attention Is All You Need", 2017.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wb.models.walk import State, Sublayer, Wiring


class Post(Wiring):
    """`norm(x + f(x))` for every sub-layer f. Without a sub-layer its norm is missing too."""

    folds: ClassVar[bool] = False

    def read(self, state: State, at: Sublayer) -> Tensor:
        return state.stream

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        return state._replace(stream=at.norm(state.stream + given))

    def gated(self, state: State, at: Sublayer, given: Tensor, gate: Tensor) -> State:
        after = self.add(state, at, given).stream
        return state._replace(stream=after + (gate - 1) * (after - state.stream))  # at gate one exactly `after`
