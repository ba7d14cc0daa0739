"""Sliced recursion: a block of a transformer that is run several times with the same weights.

Source: Shen, Liu and Xing, "Sliced Recursive Transformer", 2022, https://arxiv.org/abs/2111.05297, and the published
code: T times x <- c1 x + c2 A(LN x), x <- c3 x + c4 MLP(LN x) with the same weights and factors, each time followed by a
projection x <- c5 x + c6 MLP_t(LN x) of its own; A is attention within groups of tokens, of which the later ones are
of permuted tokens.
Differs: of c1, c3 and c5 what they are above one is kept (`…_more`), so that a block of zeros gives nothing. A block with its
projections is one operator, whose contribution is what it makes of the stream less the stream, so that pruning, fusion and
export see a part like any other. Every second time and each after it has the same groups; the published test of the layer's
number is right for two only. The permutation is drawn once (`group.py`).
Limits: it reads the stream behind norms of its own again and again, so that it has neither readers nor writers: it is
corrected (fusion, pruning) by nothing, and kept in floating point. Its work grows with the loops, its parameters by a
projection for each.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.recursion import Sliced as Record
from wb.models.layers.operator import NOTHING, Context, Symmetry
from wb.models.layers.tensors import dividing, join_heads, project
from wb.models.mixers.attention.group import shuffled
from wb.models.mixers.attention.recursion import Recursion


class SlicedRecursion(Recursion):
    """`loops` times attention in groups, a perceptron, a projection; less the stream that came in.

    Cost: loops * (N*D*H*(2K + 2V) + 2*N*D*(M + P)) + the sum over the loops of H*N^2*(K + V) / groups multiply-accumulates,
    for M hidden units of the perceptron and P of a projection.
    """

    symmetries: Mapping[str, Symmetry] = {**Recursion.symmetries, "loop_projection": "permutation"}
    record: Record

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.groups = [dividing(record.later if t else record.groups, layout.tokens) for t in range(record.loops)]
        self.attends()
        self._step("attend")
        self._perceptron("loop", "loop_mlp")
        for t in range(record.loops):
            self._perceptron(f"after{t}", "loop_projection")

    def _perceptron(self, name: str, hidden: str) -> None:
        self.thinks(name, hidden)
        self._step(name)

    def _step(self, name: str) -> None:
        """The norm in front of a step, and the factors of the stream and of what is added to it."""
        self.norms(name)
        self.holds(f"{name}_more")
        self.holds(f"{name}_add")

    def times(self, name: str) -> int:
        """What the loops share is used in each of them, for every token."""
        return super().times(name) * (1 if name.startswith("after") else self.record.loops)

    @property
    def silencing(self) -> tuple[str, ...]:
        """The factors: with none of them it is the stream that came in."""
        return tuple(name for name in self.axes if name.endswith(("_more", "_add")))

    def reset(self) -> None:
        """Gains and factors begin at one, which is nothing more for those of the stream."""
        super().reset()
        for name in self.axes:
            if name.endswith(("_gain", "_add")):
                nn.init.ones_(getattr(self, name))
            elif name.endswith("_more"):
                nn.init.zeros_(getattr(self, name))

    def carry(self) -> None:
        """Gives the stream behind it, from which the stream before it is not subtracted."""
        self.carries = True

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        y = x
        for t, groups in enumerate(self.groups):
            y = self._stepped(y, "attend", self._attended(self.normed(y, "attend"), groups, permuted=t > 0))
            for name in ("loop", f"after{t}"):
                y = self._stepped(y, name, self._thought(self.normed(y, name), name))
        return y if self.carries else y - x

    def _attended(self, y: Tensor, groups: int, *, permuted: bool) -> Tensor:
        """Attention within so many groups: (B, N, D) -> (B, N, D)."""
        order = shuffled(self.layout.tokens).to(y.device) if permuted and groups > 1 else None
        own, width = self.layout.tokens // groups, int(y.shape[2])
        grouped = (y if order is None else y.index_select(1, order)).reshape(-1, own, width)
        q, k, v = (project(grouped, self.kept(f"w{name}"), getattr(self, f"b{name}"), own) for name in "qkv")
        found = join_heads((q * self.record.factor @ k.transpose(-1, -2)).softmax(dim=-1) @ v, own)
        given = self.merged(found).reshape(-1, self.layout.tokens, width)
        return given if order is None else given.index_select(1, order.argsort())

    def _thought(self, y: Tensor, name: str) -> Tensor:
        """A perceptron: (B, N, D) -> (B, N, D)."""
        up = F.gelu(F.linear(y, self.kept(f"{name}_up"), getattr(self, f"{name}_up_bias")))
        return F.linear(up, self.kept(f"{name}_down"), getattr(self, f"{name}_down_bias"))

    def _stepped(self, y: Tensor, name: str, given: Tensor) -> Tensor:
        stepped: Tensor = (1 + getattr(self, f"{name}_more")) * y + getattr(self, f"{name}_add") * given
        return stepped
