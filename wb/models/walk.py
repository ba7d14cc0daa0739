"""The walk through a network: sub-layer by sub-layer, each reads a state and adds to it as its wiring says.

    state = network.begin(images)
    for at in network.walk():
        state = network.enter(state, at.stage)      # merges, if another stage begins
        state = at(state)                           # or: at.add(state, at.contribution(state))
    logits = network.end(state)

`Network.forward` does just that, and so does every tool that inspects sub-layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Stage
from wb.models.joins.base import JoinModule
from wb.models.layers.operator import NOTHING, Context, OperatorModule, PartModule
from wb.models.norms.base import NormModule

Kind = Literal["mixer", "ffn"]


class State(NamedTuple):
    """The state between two sub-layers: the residual stream (B, N, D), its stage, further tensors of the wiring, and the
    context of the run."""

    stream: Tensor
    stage: int
    memory: tuple[Tensor, ...] = ()
    context: Context = NOTHING


class Wiring(PartModule):
    """How the sub-layers of a stage read the residual stream and add to it. Final subclasses live in one file each."""

    folds: ClassVar[bool]
    """Whether every norm is read by operators only (pre-norm). Then norms may be folded into their readers, and the stream may be
    changed in any way that its norms do not notice."""
    chained: ClassVar[bool] = True
    """Whether every sub-layer reads the stream that the one before it left, not the first one's of its block."""
    sums: ClassVar[bool] = True
    """Whether the stream behind a sub-layer is the one before it and what the sub-layer contributes."""

    def __init__(self, stage: Stage, device: torch.device | str | None = None) -> None:
        super().__init__({"embed": stage.embed}, device)
        self.record = stage.wiring

    def reset(self) -> None:
        """Nothing, where a wiring has no parameters."""

    def begin(self, x: Tensor, stage: int) -> State:
        """The state at the start of a stage whose tokens are x (B, N, D)."""
        return State(x, stage)

    def entered(self, state: State) -> Tensor:
        """The tokens that a stage began with, from the state that `begin` made of them: (B, N, D)."""
        return state.stream

    def read(self, state: State, at: Sublayer) -> Tensor:
        """The input of the operator: (B, N, D)."""
        raise NotImplementedError

    def ahead(self, before: State, at: Sublayer) -> Tensor | None:
        """The input of the operator, from the state before the sub-layer in front of it; None if it reads what that one adds."""
        return None

    def add(self, state: State, at: Sublayer, given: Tensor) -> State:
        """The state after the sub-layer has contributed `given` (B, N, D)."""
        raise NotImplementedError

    def skip(self, state: State, at: Sublayer) -> State:
        """The state without the sub-layer and its norm."""
        return state

    def gated(self, state: State, at: Sublayer, given: Tensor, gate: Tensor) -> State:
        """The state with a sub-layer scaled by `gate`: at one exactly `add`, at zero `skip`."""
        return self.add(state, at, given * gate)

    def keeps(self, block: int) -> int:
        """How many tensors of a state's `memory`, the first ones, what stands behind that block reads."""
        del block
        return 0

    def end(self, state: State) -> Tensor:
        """The tokens at the end of the stage: (B, N, D)."""
        return state.stream


@dataclass(frozen=True)
class Sublayer:
    """A mixer or feed-forward in its place, with everything that a tool needs on its walk."""

    name: str  # s0.b3.mixer
    stage: int
    block: int
    kind: Kind
    first: bool  # in its block
    operator: OperatorModule
    norm: NormModule
    join: JoinModule | None
    wiring: Wiring
    prefix: str  # stages.0.3.mixer
    norm_prefix: str  # stages.0.3.norm1
    join_prefix: str  # stages.0.3.join1

    @property
    def place(self) -> str:
        """The name of its block, `s0.b3`."""
        return f"s{self.stage}.b{self.block}"

    @property
    def prefixes(self) -> tuple[str, str, str]:
        """What the names of its parameters begin with: of the operator, the norm and the join."""
        return self.prefix, self.norm_prefix, self.join_prefix

    @property
    def readers(self) -> dict[str, str | None]:
        """Full names of the weights that read the stream -> their biases."""
        return self._full(self.operator.readers)

    @property
    def writers(self) -> dict[str, str | None]:
        """Full names of the weights that write to the stream -> their biases."""
        return self._full(self.operator.writers)

    def read(self, state: State) -> Tensor:
        """The input of the operator: (B, N, D)."""
        return self.wiring.read(state, self)

    def contribution(self, state: State) -> Tensor:
        """The contribution to the stream: (B, N, D)."""
        given = self.joined(self.operator(self.read(state), state.context), state)
        return F.dropout(given, state.context.dropout) if state.context.dropout else given

    def joined(self, output: Tensor, state: State) -> Tensor:
        """The contribution of an operator with that output: (B, N, D)."""
        return output if self.join is None else cast(Tensor, self.join(output, state.stream))

    @property
    def gated(self) -> bool:
        """Whether a join makes something else of the output than a multiple: writers are then not all that contributes."""
        return self.join is not None and not self.join.scales

    def add(self, state: State, given: Tensor) -> State:
        """The state after the sub-layer has contributed `given`."""
        return self.wiring.add(state, self, given)

    def __call__(self, state: State) -> State:
        """The state after the sub-layer."""
        if self.operator.carries:
            return state._replace(stream=self.operator(state.stream, state.context))
        return self.add(state, self.contribution(state))

    @property
    def adds(self) -> bool:
        """Whether the stream behind it is the stream before it and what the operator makes of that, nothing else."""
        alike = self.wiring.folds and self.wiring.chained and self.wiring.sums
        return alike and self.operator.record.normed and self.join is None

    @property
    def scaling(self) -> tuple[str, ...]:
        """Full names of the parameters on the stream that what the operator gives is proportional to."""
        return tuple(f"{self.prefix}.{name}" for name in self.operator.scaling)

    @property
    def silencing(self) -> tuple[str, ...]:
        """Full names of the parameters that are zero where the operator gives nothing."""
        return tuple(f"{self.prefix}.{name}" for name in self.operator.silencing)

    def _full(self, pairs: dict[str, str | None]) -> dict[str, str | None]:
        return {f"{self.prefix}.{w}": None if bias is None else f"{self.prefix}.{bias}" for w, bias in pairs.items()}
