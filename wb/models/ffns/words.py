"""TNT's inner transformer: every token is a few words that attend to each other.

Source: Han et al., "Transformer in Transformer", 2021, https://arxiv.org/abs/2103.00112, and the published code: the
words i of a token, i <- i + MHA(LN i), i <- i + MLP(LN i), and the token's stream gets LN(W LN(flatten i)).
Differs: the words are read from the token's stream in every block, by a map with a bias, which holds the positions of words.
Published they are pixels at first and a stream of their own beside the tokens', from block to block; a stage has one stream. A
class token has words as well.
Limits: it mixes no tokens. As a norm stands behind its last map, that is no writer: it is corrected (fusion, pruning) by nothing.
The matrices are small and many, so that CPUs take several times as long as for one perceptron of as many products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.ffns import Words as Record
from wb.models.axes import read
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry
from wb.models.layers.tensors import ACTIVATIONS, join_heads, project

NORMS = ("first", "second", "joint", "outer")


class Words(OperatorModule):
    """`LN(word_joint LN(flatten i))` for the words i (M, C) of a token, behind attention and a perceptron among them."""

    symmetries: Mapping[str, Symmetry] = {
        "word_mlp": "permutation",
        "words": "permutation",
        "word_channels": "permutation",
        "word_heads": "permutation",
        "word_qk": "rotation",
        "word_v": "rotation",
    }
    stream: ClassVar[Symmetry] = "permutation"
    averaged: tuple[str, ...] = ("words", "word_channels", "embed")
    record: Record
    word_bias: nn.Parameter
    word_out_bias: nn.Parameter
    word_up_bias: nn.Parameter
    word_down_bias: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.activation = ACTIVATIONS[record.activation]
        self.reads("word", "word_bias", "words", "word_channels")
        self._norm("first", "word_channels")
        self.between("word_query", "word_heads", "word_qk", read("word_channels"))
        self.between("word_key", "word_heads", "word_qk", read("word_channels"))
        self.between("word_value", "word_heads", "word_v", read("word_channels"))
        self.between("word_out", "word_channels", read("word_heads"), read("word_v"))
        self.holds("word_out_bias", "word_channels")
        self._norm("second", "word_channels")
        self.between("word_up", "word_mlp", read("word_channels"))
        self.holds("word_up_bias", "word_mlp")
        self.between("word_down", "word_channels", read("word_mlp"))
        self.holds("word_down_bias", "word_channels")
        self._norm("joint", "words", "word_channels")
        self.between("word_joint", "embed", read("words"), read("word_channels"))
        self._norm("outer", "embed")

    def times(self, name: str) -> int:
        """What makes words of a token, and a token of words, is used for each token, all else for each word."""
        return super().times(name) * (1 if name in ("word", "word_joint") else int(self.word_bias.shape[0]))

    @property
    def scaling(self) -> tuple[str, ...]:
        """Gain and shift of the last norm."""
        return "outer_gain", "outer_shift"

    @property
    def factors(self) -> Mapping[str, float]:
        return {"word_query": self.record.factor}

    def reset(self) -> None:
        super().reset()
        for name in NORMS:
            nn.init.ones_(self.get_parameter(f"{name}_gain"))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        words, channels = (int(size) for size in self.word_bias.shape)
        y = F.linear(x, self.kept("word").flatten(0, 1), self.word_bias.flatten()).reshape(-1, words, channels)
        y = y + self._attended(self._normed(y, "first"), words)
        up = self.activation(F.linear(self._normed(y, "second"), self.kept("word_up"), self.word_up_bias))
        y = y + F.linear(up, self.kept("word_down"), self.word_down_bias)
        joint = F.linear(self._normed(y, "joint").flatten(1), self.kept("word_joint").flatten(1))
        return self._normed(joint, "outer").reshape(-1, self.tokens(x), int(x.shape[2]))

    def _attended(self, y: Tensor, words: int) -> Tensor:
        """What the words of every token attend to: (B*N, M, C) -> (B*N, M, C)."""
        q, k, v = (project(y, self.kept(f"word_{name}"), None, words) for name in ("query", "key", "value"))
        found = (q * self.record.factor @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        return F.linear(join_heads(found, words), self.kept("word_out").flatten(1), self.word_out_bias)

    def _norm(self, name: str, *axes: str) -> None:
        self.holds(f"{name}_gain", *axes)
        self.holds(f"{name}_shift", *axes)

    def _normed(self, y: Tensor, name: str) -> Tensor:
        gain, shift = getattr(self, f"{name}_gain"), getattr(self, f"{name}_shift")
        return F.layer_norm(y, gain.shape, gain, shift, self.record.eps)
