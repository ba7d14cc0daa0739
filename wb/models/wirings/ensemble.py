"""Path ensembles: pre-norm, and a sum of the paths with learned factors at the end.

Source: Chang et al., "Revisiting Vision Transformer from the View of Path Ensemble", 2023, https://arxiv.org/abs/2308.06548: what
leaves a pre-norm network is x_0 plus what every sub-layer added. EnsembleScale gives each of these paths a factor, path
pruning leaves some out of the sum (`cut`), and self-distillation teaches the short ones
(`wb.training.recipes.paths`). With all factors one and nothing cut it is pre-norm.
Differs: a factor is one number, so that the stream may be rotated as before; those that are cut are the first ones, which are
the shortest. Every stage is an ensemble of its own.
Limits: what is cut is computed all the same, as later sub-layers read it: work falls by nothing.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.architecture import Stage
from wb.core.records import wirings
from wb.models.walk import State, Sublayer, Wiring


class Ensemble(Wiring):
    """`x + f(norm(x))` for every sub-layer; `memory` keeps the sum of the paths so far, and is what the stage ends with.

    The factor of path k is the parameter `path<k>`, of those that are there and not cut. While `heard` is a list, every sum is
    added to it.
    """

    folds: ClassVar[bool] = True
    chained: ClassVar[bool] = False
    record: wirings.Ensemble
    path0: nn.Parameter

    def __init__(self, stage: Stage, device: torch.device | str | None = None) -> None:
        super().__init__(stage, device)
        self.heard: list[Tensor] | None = None
        for path in stage.paths:
            if path >= self.record.cut:
                self.holds(f"path{path}")

    def reset(self) -> None:
        """Every factor begins at one: pre-norm."""
        for factor in self.parameters(recurse=False):
            nn.init.ones_(factor)

    def begin(self, x: Tensor, stage: int) -> State:
        return State(x, stage, (x * (0.0 if self.record.cut else self.path0),))

    def read(self, state: State, at: Sublayer) -> Tensor:
        normed: Tensor = at.norm(state.stream)
        return normed

    def keeps(self, block: int) -> int:
        return 1

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        path, total = wirings.path_of(at.block, at.kind), state.memory[0]
        if path >= self.record.cut:
            total = total + given * getattr(self, f"path{path}")
            if self.heard is not None:
                self.heard.append(total)
        return state._replace(stream=state.stream + given, memory=(total,))

    def end(self, state: State) -> Tensor:
        return state.memory[0]
