"""Attention to one prototype for each head.

Source: Cavagnero et al., "PEM: Prototype-based Efficient MaskFormer for Image Segmentation", 2024,
https://arxiv.org/abs/2402.19422: queries q and keys k have length one; of every head a query takes p, the key with the largest
product; and the output is W_o(alpha normed(W(p * q)) + p).
Differs: written from the formula (the authors' code carries no licence). Queries are the tokens themselves, which were given to a
decoder; so is the memory. The 3x3 convolution of the memory stands behind its projection, where it has a filter for every channel
of a key, so that queries and keys are read from the same tokens; with `front` it stands in front, as in the published code, and
the operator has no readers. One norm stands in front of both. No masks, which a head for segmentation would make. The published
code norms over the tokens, so that they are coupled; that is the `form` "official".
Limits: entries twice are other lengths, so that neither heads nor channels grow by duplication. The choice of a prototype is
discontinuous, and no gradient flows through it. Queries meet all keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.sparse import Prototypes as Record
from wb.models.axes import read
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import join_heads, uniform_

SIDE = 3  # of the convolution


class PrototypeAttention(OperatorModule):
    """Cost: N*D*2HP + 9*N*HP (in front 9*N*D) + N^2*HP + N*(HP)^2 + N*HP*D, P the channels of a prototype."""

    jumps: ClassVar[bool] = True
    record: Record
    symmetries: Mapping[str, Symmetry] = {"heads": "permutation", "prototype": "permutation"}
    seek_bias: nn.Parameter
    show_bias: nn.Parameter
    blend: nn.Parameter
    blend_bias: nn.Parameter
    alpha: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        if record.front:
            vars(self).update(stream="permutation")  # of its own: filters are on it
            for name in ("seek", "show"):
                self.between(name, "heads", "prototype", read("embed"))
                self.holds(f"{name}_bias", "heads", "prototype")
            self.holds("token_filters", "embed", SIDE, SIDE)
            self.holds("token_filters_bias", "embed")
        else:
            self.reads("seek", "seek_bias", "heads", "prototype")
            self.reads("show", "show_bias", "heads", "prototype")
            self.holds("key_filters", "heads", "prototype", SIDE, SIDE)
            self.holds("key_filters_bias", "heads", "prototype")
        # Not `between`: with four dimensions it would be taken for a convolution. It stays in floating point.
        self.holds("blend", "heads", "prototype", read("heads"), read("prototype"))
        self.holds("blend_bias", "heads", "prototype")
        self.holds("alpha", "heads", "prototype")
        self.writes("found", "found_bias", "heads", "prototype")

    def times(self, name: str) -> int:
        """Tokens in front are shown to none."""
        return super().times(name) - (self.layout.prefix if name == "show" else 0)

    def reset(self) -> None:
        super().reset()
        uniform_(self._filters[0], SIDE**2)
        uniform_(self.blend, self.alpha.numel())
        nn.init.ones_(self.alpha)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, H*P)."""
        q = F.linear(x, self.kept("seek").flatten(0, 1), self.seek_bias.flatten())
        k = x[:, self.layout.prefix :]
        k = self._convolved(k) if self.record.front else k
        k = F.linear(k, self.kept("show").flatten(0, 1), self.show_bias.flatten())
        k = k if self.record.front else self._convolved(k)
        return self.taken(F.normalize(q, dim=-1), F.normalize(k, dim=-1))

    def taken(self, q: Tensor, k: Tensor) -> Tensor:
        """What queries (B, Q, H*P) take of keys (B, N, H*P), both of length one: (B, Q, H*P)."""
        heads, channels = (int(size) for size in self.alpha.shape)
        asking, keys = (y.reshape(-1, int(y.shape[1]), heads, channels).transpose(1, 2) for y in (q, k))
        chosen = (asking @ keys.transpose(-1, -2)).argmax(dim=-1, keepdim=True)  # (B, H, Q, 1)
        p = join_heads(keys.gather(2, chosen.expand(-1, -1, -1, channels)))
        common = F.linear(p * q, self.blend.flatten(2).flatten(0, 1), self.blend_bias.flatten())
        over = 1 if self.record.form == "official" else 2
        return F.normalize(common, dim=over) * self.alpha.flatten() + p

    @property
    def inside(self) -> tuple[str, ...]:
        """In front of the keys' map there is the convolution, and the queries' is of the same norm."""
        return ("seek", "show") if self.record.front else ()

    @property
    def _filters(self) -> tuple[Tensor, Tensor]:
        """Filters and their biases, of tokens or of keys."""
        name = "token_filters" if self.record.front else "key_filters"
        return getattr(self, name), getattr(self, f"{name}_bias")

    def _convolved(self, k: Tensor) -> Tensor:
        """Every channel with its neighbours: (B, N, C) -> (B, N, C)."""
        (rows, columns), channels = self.layout.shape, int(k.shape[2])
        image = k.transpose(1, 2).reshape(-1, channels, rows, columns)
        filters, bias = self._filters
        filters = filters.reshape(channels, 1, SIDE, SIDE)
        y = F.conv2d(image, filters, bias.flatten(), padding=SIDE // 2, groups=channels)
        return y.flatten(2).transpose(1, 2)
