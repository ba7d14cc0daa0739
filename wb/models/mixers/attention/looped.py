"""A looped block: a block of a transformer that is run several times with the same weights, its input added each time.

Source: Yang et al., "Looped Transformers are Better at Learning Learning Algorithms", 2023, https://arxiv.org/abs/2311.12424,
and the published code: z <- f(z + x) from z = 0 on, f pre-norm attention and perceptron (the tanh approximation of GELU) and a
norm behind them. Gao et al., "AlgoFormer", 2024, https://arxiv.org/abs/2402.13572, of which no code was found: z <- f(z) from
z = x on, between blocks in front and behind, which are ordinary ones here.
Differs: what it contributes is z less the stream, times a learned factor that begins at one, so that a block that gives nothing
can join a network. The published code adds positions in every loop; here they are in x already, which is the same with
`inject`. Every loop is differentiated, the first ones too.
Limits: f is one layer. It reads the stream behind norms of its own again and again, so that it has neither readers nor writers:
it is corrected (fusion, pruning) by nothing, and kept in floating point. Its work grows with the loops, its parameters do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.recursion import Looped as Record
from wb.core.specs import PAST
from wb.models.layers.operator import NOTHING, Context
from wb.models.layers.tensors import ACTIVATIONS, join_heads, project
from wb.models.mixers.attention.recursion import Recursion

ACTIVATION = ACTIVATIONS["gelu_tanh"]


class LoopedBlock(Recursion):
    """`loops` times attention and a perceptron, each added; less the stream that came in.

    Cost: loops * (N*D*H*(2K + 2V) + H*N^2*(K + V) + 2*N*D*M) multiply-accumulates, for M hidden units of the perceptron. In
    causal layouts it keeps keys and values of every loop.
    """

    record: Record
    wq: nn.Parameter
    wv: nn.Parameter
    loop_up_bias: nn.Parameter
    loop_down_bias: nn.Parameter
    given: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.attends()
        self.thinks("loop", "loop_mlp")
        for step in ("attend", "loop", "end") if record.closed else ("attend", "loop"):
            self.norms(step)
        self.holds("given")

    def times(self, name: str) -> int:
        """For every token in each loop."""
        return super().times(name) * self.record.loops

    @property
    def silencing(self) -> tuple[str, ...]:
        """The factor of what is given."""
        return ("given",)

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """Keys and values of every loop."""
        heads, keys, _ = self.wq.shape
        shapes: dict[str, tuple[int | str, ...]] = {
            "key": (heads, PAST, keys),
            "value": (heads, PAST, self.wv.shape[1]),
        }
        return {f"{name}{t}": shape for t in range(self.record.loops) for name, shape in shapes.items()}

    def reset(self) -> None:
        """Gains and the factor begin at one."""
        super().reset()
        for name in self.axes:
            if name.endswith("_gain") or name == "given":
                nn.init.ones_(getattr(self, name))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self._looped(x, context, ())[0]

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Keys and values of each loop are appended to those of the past."""
        return self._looped(x, context, past)

    def _looped(self, x: Tensor, context: Context, past: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        kept: list[Tensor] = []
        y = x
        for t in range(self.record.loops):
            z = y + x if self.record.inject and t else y
            q, k, v = self._projected(self.normed(z, "attend"))
            if past:
                k, v = (torch.cat([old, new], dim=2) for old, new in zip(past[2 * t :], (k, v), strict=False))
            kept += [k, v]
            z = z + self.merged(self._attended(q, k, v, context))
            up = ACTIVATION(F.linear(self.normed(z, "loop"), self.kept("loop_up"), self.loop_up_bias))
            z = z + F.linear(up, self.kept("loop_down"), self.loop_down_bias)
            y = self.normed(z, "end") if self.record.closed else z
        return self.given * (y - x), tuple(kept)

    def _projected(self, y: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values: (B, N, D) -> (B, H, N, channels)."""
        return tuple(project(y, self.kept(f"w{name}"), getattr(self, f"b{name}"), self.tokens(y)) for name in "qkv")

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, context: Context) -> Tensor:
        """What the tokens see of each other, head by head: (B, N, H * V)."""
        scores = q * self.record.factor @ k.transpose(-1, -2)
        if context.visible is not None:
            scores = scores.masked_fill(~context.visible, torch.finfo(scores.dtype).min)
        return join_heads(scores.softmax(dim=-1) @ v, self.tokens(q.transpose(1, 2)))
