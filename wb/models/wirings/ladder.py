"""Ladder residuals.

Source: Zhang et al., "Ladder-Residual: Parallelism-Aware Architecture for Accelerating Large Model Inference with Communication
Overlapping", 2025, eq. 2, https://arxiv.org/abs/2501.06589: s_j = s_{j-1} + f_j(norm(s_{j-2})), with s_{-1} = s_0.
Limits: what is next to each other may run at once, which a device with one queue does not gain from. The first block is the first
that the stage has; one that is dropped leaves that place to the next.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from wb.core.architecture import Stage
from wb.core.records import wirings
from wb.models.walk import State, Sublayer, Wiring


class Ladder(Wiring):
    """`x + f(norm(x before the last addition))`; `memory` keeps the stream as it was before that."""

    folds: ClassVar[bool] = True
    chained: ClassVar[bool] = False
    record: wirings.Ladder

    def __init__(self, stage: Stage, device: torch.device | str | None = None) -> None:
        super().__init__(stage, device)
        self.opening = next((i for i, block in enumerate(stage.blocks) if not block.off), 0)

    def begin(self, x: Tensor, stage: int) -> State:
        return State(x, stage, (x,))

    def read(self, state: State, at: Sublayer) -> Tensor:
        normed: Tensor = at.norm(state.stream if self._sequential(at) else state.memory[0])
        return normed

    def ahead(self, before: State, at: Sublayer) -> Tensor | None:
        return None if self._sequential(at) else at.norm(before.stream)

    def keeps(self, block: int) -> int:
        return 1

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        return state._replace(stream=state.stream + given, memory=(state.stream,))

    def _sequential(self, at: Sublayer) -> bool:
        return self.record.sequential and at.block == self.opening

    def gated(self, state: State, at: Sublayer, given: Tensor, gate: Tensor) -> State:
        before = state.memory[0]
        return state._replace(stream=state.stream + given * gate, memory=(before + (state.stream - before) * gate,))
