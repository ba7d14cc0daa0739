"""A linear classifier of pooled tokens, or one with a hidden layer.

Source of the pair: Touvron et al., "Training data-efficient image transformers & distillation through attention" (DeiT), 2021;
of the hidden layer: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019 (pooler).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core import records
from wb.core.layout import Layout
from wb.models.axes import Axis, read
from wb.models.ends import HeadModule
from wb.models.layers.lowbit import low_bit

UNITS: Mapping[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": F.relu}


class Classify(HeadModule):
    """`head` (classes, D) and `head_bias` (classes) on the mean of the tokens that have a place, or on the first of all.

    Of a pair, `second` and `second_bias` are on the second of all, and both answers are averaged. With a hidden layer, `hidden`
    (units, D) and `hidden_bias` (units) read that, and `head` (classes, units) reads the units.
    """

    def __init__(
        self,
        record: records.Classify,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record, network, embed, layout, device)
        self.prefix, self.readers = layout.prefix, {"head": "head_bias"}
        if record.pool == "pair":
            self.readers["second"] = "second_bias"
        given: tuple[Axis | None, int] = (read("embed"), embed)
        if record.hidden is not None:
            self.readers = {"hidden": "hidden_bias"}
            units = (None, record.hidden.width)
            self.holds(network, "hidden", units, given, device=device)
            self.holds(network, "hidden_bias", units, device=device)
            given = units
        for weight, bias in self.answers.items():
            self.holds(network, weight, ("classes", record.classes), given, device=device)
            self.holds(network, str(bias), ("classes", record.classes), device=device)

    @property
    def maps(self) -> dict[str, str | None]:
        return self.readers | self.answers

    @property
    def answers(self) -> dict[str, str | None]:
        return self.readers if self.record.hidden is None else {"head": "head_bias"}

    def reset(self, network: Any) -> None:
        for weight, bias in self.maps.items():
            nn.init.trunc_normal_(getattr(network, weight), std=0.02)
            nn.init.zeros_(getattr(network, str(bias)))

    def pooled(self, x: Tensor, norm: Callable[[Tensor], Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """(B, N, D) or (B, D, rows, columns) -> (B, D), of a pair (B, 2, D)."""
        if norm is None:
            return self._pooled(x, mask)
        return norm(self._pooled(x, mask)) if self.record.normed == "pooled" else self._pooled(norm(x), mask)

    def _pooled(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if x.dim() == 4:
            return x.mean(dim=(2, 3))
        if self.record.pool == "first":
            return x[:, 0]
        if self.record.pool == "pair":
            return x[:, :2]
        x = x[:, self.prefix :] if self.prefix else x
        if mask is None:
            return x.mean(dim=1)
        counts = mask[:, self.prefix :, None].to(x)  # (B, N, 1)
        return (x * counts).sum(dim=1) / counts.sum(dim=1).clamp(min=1)

    def outputs(self, network: Any, pooled: Tensor) -> Tensor:
        """(B, D), of a pair (B, 2, D) -> (B, classes)."""
        if self.record.pool != "pair":
            return self._mapped(network, self.before(network, pooled, "head"), "head")
        return (self.answered(network, pooled, "head") + self.answered(network, pooled, "second")) / 2

    def seen(self, pooled: Tensor, weight: str) -> Tensor:
        """(B, D), of a pair (B, 2, D) -> (B, D)."""
        return pooled[:, list(self.readers).index(weight)] if self.record.pool == "pair" else pooled

    def answered(self, network: Any, pooled: Tensor, weight: str) -> Tensor:
        """(B, D), of a pair (B, 2, D) -> (B, classes)."""
        return self._mapped(network, self.seen(pooled, weight), weight)

    def before(self, network: Any, pooled: Tensor, weight: str) -> Tensor:
        """(B, D), of a pair (B, 2, D) -> (B, D), or (B, units)."""
        if self.record.hidden is None:
            return self.seen(pooled, weight)
        return UNITS[self.record.hidden.activation](self._mapped(network, pooled, "hidden"))

    def _mapped(self, network: Any, x: Tensor, weight: str) -> Tensor:
        rounded = low_bit(getattr(network, weight), self.record.precision, 1)
        return F.linear(x, rounded, getattr(network, str(self.maps[weight])))

    def settle(self, network: Any) -> None:
        for weight in self.maps:
            parameter = getattr(network, weight)
            parameter.copy_(low_bit(parameter, self.record.precision, 1))
        self.record = self.record.model_copy(update={"precision": "fp32"})

    def describe(self, network: Any) -> records.Head:
        return self.record.model_copy(update={"classes": network.head.shape[0]})
