"""Parallel sub-layers, as in GPT-J.

Source: Wang and Komatsuzaki, "GPT-J-6B", 2021, https://github.com/kingoflolz/mesh-transformer-jax.
Differs: mixer and feed-forward have a norm each, as in Black et al., "GPT-NeoX-20B", 2022, section 2.1; GPT-J has one for both.
With equal norms the two are the same function.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from wb.models.walk import State, Sublayer, Wiring


class Parallel(Wiring):
    """`x + mixer(norm1(x)) + ffn(norm2(x))`: every sub-layer of a block reads what the block was given, which `memory` keeps."""

    folds: ClassVar[bool] = True
    chained: ClassVar[bool] = False

    def read(self, state: State, at: Sublayer) -> Tensor:
        normed: Tensor = at.norm(self._given(state, at))
        return normed

    def ahead(self, before: State, at: Sublayer) -> Tensor | None:
        return None if at.first else at.norm(before.stream)  # the sub-layer in front of it is the first of the block

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        return state._replace(stream=state.stream + given, memory=(self._given(state, at),))

    def skip(self, state: State, at: Sublayer) -> State:
        return state._replace(memory=(self._given(state, at),))

    def _given(self, state: State, at: Sublayer) -> Tensor:
        return state.stream if at.first else state.memory[0]
