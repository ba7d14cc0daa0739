"""Attention among groups of tokens through latents.

Source: Chen and Li, "FIT: Far-reaching Interleaved Transformers", 2023, https://arxiv.org/abs/2305.12689, and the
published code, of a layer "G": the latents z of every group, z <- z + MHA(LN z, its tokens); of all groups together, as one
sequence, z <- z + MHA(LN z), z <- z + MLP(LN z); and the tokens of every group get MHA(x, LN z of the group).
Differs: latents begin anew in every block, from learned ones; published they are a stream of their own beside the tokens', from
layer to layer. Tokens are normed once, in front of the block, not for latents and for themselves. Keys and values of latents
have no biases: those of keys do nothing, and those of values are part of the biases behind the heads. Layers "L", attention
within groups, are other blocks (`grouped`).
Limits: within a group tokens see what follows, also with `ordered`. The latents of a group are learned for its place.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import Latents as Record
from wb.models.axes import read
from wb.models.layers.attention import AttentionModule
from wb.models.layers.operator import Context, Symmetry
from wb.models.layers.tensors import UNSEEN, constant, dividing, join_heads, project, uniform_

NORMS = ("gather", "among", "perceptron", "scatter")


class LatentAttention(AttentionModule):
    """Tokens to M latents of each of T groups, among T*M latents, and back.

    Cost: N*D*H*(2K + 2V) + 2*N*M*H*(K + V), and what attention and perceptron among T*M tokens take.
    """

    record: Record
    symmetries: Mapping[str, Symmetry] = {
        "heads": "permutation",
        "qk": "rotation",
        "v": "rotation",
        "latents": "permutation",
        "latent_width": "permutation",
        "latent_mlp": "permutation",
    }
    averaged: tuple[str, ...] = ("latent_width",)
    latent: nn.Parameter
    gather_query: nn.Parameter
    gather_query_bias: nn.Parameter
    latent_up_bias: nn.Parameter
    latent_down_bias: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.groups = dividing(record.groups, layout.tokens)
        self.holds("latent", self.groups, "latents", "latent_width")
        for name in NORMS:
            self.holds(f"{name}_gain", "latent_width")
            self.holds(f"{name}_shift", "latent_width")
        self.holds("gather_query", "heads", "qk", read("latent_width"))  # no map of a graph, which has what it gives
        for name in ("gather", "latent"):
            self.holds(f"{name}_query_bias", "heads", "qk")
            self.holds(f"{name}_out_bias", "latent_width")
        for name, channels in (("latent_query", "qk"), ("latent_key", "qk"), ("latent_value", "v")):
            self.between(name, "heads", channels, read("latent_width"))
        for name in ("gather_out", "latent_out"):
            self.between(name, "latent_width", read("heads"), read("v"))
        self.between("latent_up", "latent_mlp", read("latent_width"))
        self.holds("latent_up_bias", "latent_mlp")
        self.between("latent_down", "latent_width", read("latent_mlp"))
        self.holds("latent_down_bias", "latent_width")
        self.between("scatter_key", "heads", "qk", read("latent_width"))
        self.between("scatter_value", "heads", "v", read("latent_width"))

    def times(self, name: str) -> int:
        """What reads tokens and writes to them is used for each of them, all else for each latent."""
        of_tokens = name in self.readers or name in self.writers
        return super().times(name) if of_tokens else self.groups * int(self.latent.shape[1])

    @property
    def idle(self) -> tuple[str, ...]:
        """Latents meet all keys of their group."""
        return ("bk",)

    @property
    def factors(self) -> Mapping[str, float]:
        """The scale goes to the queries."""
        queries = ("wq", "gather_query", "latent_query")
        return dict.fromkeys((*queries, "bq", *(f"{name}_bias" for name in queries[1:])), self.record.factor)

    def reset(self) -> None:
        super().reset()
        nn.init.trunc_normal_(self.latent, std=0.02)
        uniform_(self.gather_query, self.gather_query.shape[2])
        for name in NORMS:
            nn.init.ones_(self.get_parameter(f"{name}_gain"))

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        (heads, queries, values), (_, count, width) = self.channels, (int(size) for size in self.latent.shape)
        own = self.layout.tokens // self.groups
        grouped = x.reshape(-1, own, int(x.shape[2]))  # (B*T, N/T, D)
        q, k, v = (project(grouped, self.kept(name), self.bias(name), own) for name in ("wq", "wk", "wv"))
        k = k.reshape(-1, self.groups, heads, own, queries)
        v = v.reshape(-1, self.groups, heads, own, values)
        # Graphs have what this gives: it is computed once, so that it is no matrix product that counts.
        asking = (self._normed(self.latent, "gather")[:, None, :, None] * self.gather_query[:, None]).sum(dim=4)
        asking = asking + self.gather_query_bias[:, None]
        taken = self._attended(asking, k, v).reshape(-1, heads, count, values)  # (B*T, H, M, V)
        z = self._written(taken, "gather_out").reshape(-1, self.groups, count, width) + self.latent
        z = self._among(z.flatten(1, 2)).reshape(-1, count, width)  # (B*T, M, C)
        seen = self._normed(z, "scatter")
        y = self._attended(q, self._projected(seen, "scatter_key"), self._projected(seen, "scatter_value"))
        return join_heads(y, own).reshape(-1, self.layout.tokens, heads * values)

    def _among(self, z: Tensor) -> Tensor:
        """What the latents of all groups are behind attention and perceptron: (B, T*M, C) -> (B, T*M, C)."""
        seen = self._normed(z, "among")
        q, k, v = (self._projected(seen, name) for name in ("latent_query", "latent_key", "latent_value"))
        z = z + self._written(self._attended(q, k, v, self._unseen(q)), "latent_out")
        up = F.gelu(F.linear(self._normed(z, "perceptron"), self.kept("latent_up"), self.latent_up_bias))
        return z + F.linear(up, self.kept("latent_down"), self.latent_down_bias)

    def _unseen(self, like: Tensor) -> Tensor | None:
        """What is added to the scores of latents, (T*M, T*M); nothing where all see each other."""
        if not self.record.ordered:
            return None
        group = torch.arange(self.groups).repeat_interleave(int(self.latent.shape[1]))
        return constant((group[:, None] < group[None, :]) * UNSEEN, like)

    def _attended(self, q: Tensor, k: Tensor, v: Tensor, added: Tensor | None = None) -> Tensor:
        scores = q * self.record.factor @ k.transpose(-1, -2)
        return (scores if added is None else scores + added).softmax(dim=-1) @ v

    def _projected(self, z: Tensor, name: str) -> Tensor:
        """Latents projected into heads: (B, M, C) -> (B, H, M, channels)."""
        return project(z, self.kept(name), getattr(self, f"{name}_bias", None))

    def _written(self, y: Tensor, name: str) -> Tensor:
        """(B, H, M, V) -> (B, M, C)."""
        return F.linear(join_heads(y), self.kept(name).flatten(1), getattr(self, f"{name}_bias"))

    def _normed(self, z: Tensor, name: str) -> Tensor:
        gain, shift = getattr(self, f"{name}_gain"), getattr(self, f"{name}_shift")
        return F.layer_norm(z, gain.shape, gain, shift, self.record.eps)
