"""A block of a network, and the modules of the records in it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import nn

from wb.core.architecture import Block, Stage
from wb.core.layout import Layout
from wb.core.records import Join, Norm, Operator, Unnormed
from wb.models.joins.base import JoinModule
from wb.models.layers.operator import OperatorModule
from wb.models.norms.base import NormModule
from wb.models.walk import Kind, State, Sublayer, Wiring

KINDS: tuple[tuple[Kind, str, str], ...] = (("mixer", "norm1", "join1"), ("ffn", "norm2", "join2"))  # in their order


class BlockModule(nn.Module):
    """A mixer and a feed-forward, each with its norm and, where the block has one, its join.

    A part that the record leaves out is the identity, without norm and join.
    """

    stage: int
    block: int
    own_norm: Norm | None
    join: Join | None
    mixer: OperatorModule | None
    ffn: OperatorModule | None

    def __init__(
        self,
        block: Block,
        place: tuple[int, int],
        embed: int,
        layout: Layout,
        norm: Norm,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        # Bypasses torch's checks, as `PartModule` does.
        vars(self).update(stage=place[0], block=place[1], own_norm=block.norm, join=block.join)
        for (kind, normed, joined), record in zip(KINDS, (block.mixer, block.ffn), strict=True):
            if record is None:
                self._modules[kind] = None
            else:
                self._modules[normed] = build_norm(Unnormed() if record.normed else block.norm or norm, embed, device)
                self._modules[kind] = build_operator(record, embed, layout, device)
                if block.join is not None:
                    self._modules[joined] = build_join(block.join, embed, device)

    def describe(self) -> Block:
        """The record of this module."""
        mixer, ffn = (None if part is None else part.describe() for part in (self.mixer, self.ffn))
        return Block.model_validate({"mixer": mixer, "ffn": ffn, "norm": self.own_norm, "join": self.join})

    def sublayers(self, wiring: Wiring) -> Iterator[Sublayer]:
        """The mixer and the feed-forward, those that are there."""
        place, prefix, first = f"s{self.stage}.b{self.block}", f"stages.{self.stage}.{self.block}", True
        for kind, norm, join in KINDS:
            operator = getattr(self, kind)
            if operator is not None:
                yield Sublayer(
                    name=f"{place}.{kind}",
                    stage=self.stage,
                    block=self.block,
                    kind=kind,
                    first=first,
                    operator=operator,
                    norm=getattr(self, norm),
                    join=getattr(self, join) if self.join is not None else None,
                    wiring=wiring,
                    prefix=f"{prefix}.{kind}",
                    norm_prefix=f"{prefix}.{norm}",
                    join_prefix=f"{prefix}.{join}",
                )
                first = False

    def forward(self, wiring: Wiring, state: State) -> State:
        """The state behind the block."""
        for at in self.sublayers(wiring):
            state = at(state)
        return state


def build_operator(
    record: Operator, embed: int, layout: Layout, device: torch.device | str | None = None
) -> OperatorModule:
    """The module of a mixer's or feed-forward's record."""
    module: OperatorModule = class_at(record.module)(record, embed, layout, device)
    return module


def build_norm(record: Norm, embed: int, device: torch.device | str | None = None) -> NormModule:
    """The module of a norm's record."""
    norm: NormModule = class_at(record.module)(record, embed, device)
    return norm


def build_join(record: Join, embed: int, device: torch.device | str | None = None) -> JoinModule:
    """The module of a join's record."""
    join: JoinModule = class_at(record.module)(record, embed, device)
    return join


def build_wiring(stage: Stage, device: torch.device | str | None = None) -> Wiring:
    """The wiring of the sub-layers of a stage."""
    wiring: Wiring = class_at(stage.wiring.module)(stage, device)
    return wiring


@cache
def class_at(path: str) -> Any:
    """The class at "package.file:Class"."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
