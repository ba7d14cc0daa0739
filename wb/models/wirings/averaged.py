"""Weighted averaging of earlier outputs, as in MambaMixer.

Source: Behrouz, Santacatterina and Zabih, "MambaMixer: Efficient Selective State Space Models with Dual Token and Channel
Selection", 2024, https://arxiv.org/abs/2403.19888: a token mixer reads Σ α_i y_i^T + Σ β_i y_i^C, a channel mixer
Σ θ_i y_i^T + Σ γ_i y_i^C, sums over what all earlier token mixers and all earlier channel mixers gave, with factors of its own.
What came in is counted as the first of both. No code of the authors was found: from these formulas.
Differs: what came in has one factor, which stands for the sum of its two. What leaves the stage is such a sum as well, the
input of a mixer that would follow; the last output alone is the case of factors that are zero but for the last. A norm stands
in front of every sub-layer, and all factors begin at one, so that it begins as pre-norm. Every stage has factors of its own.
Limits: all that was given in a stage stays in memory, and with n sub-layers there are (n + 1)(n + 2) / 2 factors and about as
many additions of the stream, which are not counted as multiply-accumulates.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from wb.core.architecture import Stage
from wb.core.records import wirings
from wb.models.walk import State, Sublayer, Wiring

END = "end"  # of the names of the factors of what leaves


class Averaged(Wiring):
    """`f(norm(Σ factor · what was before))` for every sub-layer; the stream is the sum of the next one, `memory` what was before.

    The factor of path i for the sub-layer of path k is the parameter `path<i>_path<k>`, `path<i>_end` for what leaves; those of
    further tensors that were before (`before`) are called `earlier<j>`.
    """

    folds: ClassVar[bool] = True
    sums: ClassVar[bool] = False
    record: wirings.Averaged

    def __init__(self, stage: Stage, device: torch.device | str | None = None) -> None:
        super().__init__(stage, device)
        earlier = [f"earlier{i}" for i in range(1, self.record.before)]
        paths = [f"path{path}" for path in stage.paths]
        self.paths = stage.paths
        self.factors: dict[int, list[str]] = {}
        for i, (path, reader) in enumerate(zip(stage.paths, [*paths[1:], END], strict=True)):
            read = [] if self.record.before and i == 0 else [*earlier, *paths[: i + 1]]
            self.factors[path] = [f"{one}_{reader}" for one in read]
            for name in self.factors[path]:
                self.holds(name)

    def reset(self) -> None:
        """Every factor begins at one: pre-norm."""
        for factor in self.parameters(recurse=False):
            nn.init.ones_(factor)

    def begin(self, x: Tensor, stage: int) -> State:
        memory = (x,) * max(1, self.record.before)
        return State(x if self.record.before else self._sum(memory, 0), stage, memory)

    def entered(self, state: State) -> Tensor:
        return state.memory[0]

    def read(self, state: State, at: Sublayer) -> Tensor:
        normed: Tensor = at.norm(state.stream)
        return normed

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        memory = (*state.memory, given)
        return state._replace(stream=self._sum(memory, wirings.path_of(at.block, at.kind)), memory=memory)

    def skip(self, state: State, at: Sublayer) -> State:
        return self.add(state, at, torch.zeros_like(state.stream))

    def keeps(self, block: int) -> int:
        return max(1, self.record.before) + sum(0 < path <= wirings.path_of(block, "ffn") for path in self.paths)

    def _sum(self, memory: tuple[Tensor, ...], path: int) -> Tensor:
        """What is read behind that path: the sum of what was before, with factors."""
        first, *others = self.factors[path]
        total: Tensor = memory[0] * getattr(self, first)
        for given, name in zip(memory[1:], others, strict=True):
            total = total + given * getattr(self, name)
        return total
