"""Pre-norm.

Source: Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wb.models.walk import State, Sublayer, Wiring


class Pre(Wiring):
    """`x + f(norm(x))` for every sub-layer f."""

    folds: ClassVar[bool] = True

    def read(self, state: State, at: Sublayer) -> Tensor:
        normed: Tensor = at.norm(state.stream)
        return normed

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        return state._replace(stream=state.stream + given)
