"""MemoryFormer's tables in the place of a feed-forward.

Source: Ding et al., "MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers", 2024,
https://arxiv.org/abs/2411.12992: the numbers z of each table, K of them, make the code c = sum_i [z_i >= 0] 2^(K-1-i), of all
patterns of signs the most probable one, with probability p = 1 / prod_i (1 + exp(-2 |z_i|)); y = sum_t weight_t table_t[c_t] + b
with p as the weight, or in the published code (`form` "official") p sum_i |z_i|.
Differs: written from the formula (the authors' code carries no licence). A linear map of the stream makes the numbers, where the
paper cuts the stream itself into chunks; with the identity they are those chunks. So streams may be permuted and pruned.
Limits: discontinuous where a number is zero. The bits of a table are no axis: as many in all networks of a space. Graphs look
rows up, which takes several times as long as a matrix of as many products.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Precision
from wb.core.records.ffns import Tables as Record
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry


class Tables(OperatorModule):
    """`sum_t weight_t rows[:, t, code_t]`, rows (D, T, 2^K). Cost: N*T*K*D + N*T*D."""

    divides: ClassVar[str | None] = "tables"
    jumps: ClassVar[bool] = True
    symmetries: Mapping[str, Symmetry] = {"tables": "permutation"}
    record: Record
    numbers: nn.Parameter
    numbers_bias: nn.Parameter
    rows: nn.Parameter
    rows_bias: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.patterns = 2**record.bits
        self.places = 2 ** torch.arange(record.bits - 1, -1, -1)
        self.reads("numbers", "numbers_bias", "tables", record.bits)
        self.writes("rows", "rows_bias", "tables", self.patterns)

    def precision(self, name: str) -> Precision:
        return "fp32" if name in self.writers else self.record.reads

    def settle(self) -> None:
        self.numbers.copy_(self.kept("numbers"))
        self.record = self.record.model_copy(update={"reads": "fp32"})

    def times(self, name: str) -> int:
        """Rows are looked up; their products with weights are of no linear map."""
        return 0 if name in self.writers else super().times(name)

    def fan_in(self, name: str) -> int:
        return int(self.rows.shape[1]) if name in self.writers else super().fan_in(name)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """The weight of each row of each table, zero but for one: (..., D) -> (..., T*2^K)."""
        weights, codes = self._hashed(x)
        chosen = codes[:, :, None] == torch.arange(self.patterns, device=x.device)
        return (chosen * weights[:, :, None]).reshape(*x.shape[:-1], -1)

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        weights, codes = self._hashed(x)
        rows = self.rows.flatten(1).transpose(0, 1)  # (T*2^K, D)
        first = self.patterns * torch.arange(weights.shape[1], device=x.device)
        found = F.embedding(codes + first, rows)  # (B*N, T, D)
        return (weights[:, None] @ found).reshape(-1, self.tokens(x), int(x.shape[2])) + self.rows_bias

    def _hashed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of every token and table the weight and the code, (B*N, T)."""
        tables, bits = (int(size) for size in self.numbers_bias.shape)
        z = F.linear(x, self.kept("numbers").flatten(0, 1), self.numbers_bias.flatten()).reshape(-1, tables, bits)
        size = z.abs()
        weights = torch.sigmoid(2 * size).prod(dim=2)
        if self.record.form == "official":
            weights = weights * size.sum(dim=2)
        return weights, ((z >= 0) * self.places.to(x.device)).sum(dim=2)
