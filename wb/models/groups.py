"""Groups of linear maps that share a precision (`wb.core.precision`): their weights, and rounding them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import nn

from wb.core.architecture import Architecture
from wb.core.precision import TRAINED, allowed, precisions, with_precisions
from wb.core.records import Precision, Unnormed, groups
from wb.models.block import KINDS, BlockModule, build_norm
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import OperatorModule
from wb.models.network import Network
from wb.models.norms.fold import fold, fold_last, foldable, head_foldable
from wb.models.walk import Sublayer


def groups_of(network: Network) -> dict[str, tuple[str, ...]]:
    """Full names of the weights of every group, in order of execution."""
    table = {"stem": _convolutions(network.stem, "stem")}
    for i in range(len(network.stages)):
        if i > 0:
            merge = network.merge(i)
            table[f"s{i}.merge"] = _convolutions(merge, f"merges.{i - 1}", merge.outputs)
        for j, block in enumerate(network.blocks(i)):
            table |= {
                f"s{i}.b{j}.{group}": tuple(f"stages.{i}.{j}.{name}" for name in names)
                for group, names in block_groups(block).items()
            }
    return table | {"head": tuple(network.answer.maps)}


def _convolutions(module: nn.Module, place: str, others: Collection[str] = ()) -> tuple[str, ...]:
    """Full names of the weights of a module whose linear maps are all convolutions, but for those called `others`."""
    return tuple(f"{place}.{name}" for name, weight in module.named_parameters() if weight.dim() == 4 or name in others)


def block_groups(block: BlockModule) -> dict[str, tuple[str, ...]]:
    """The groups that the block has, of `mixer.in`, `mixer.out`, `ffn.in`, `ffn.out`, with their weights' local names."""
    table = {}
    for kind, *_ in KINDS:
        operator: OperatorModule | None = getattr(block, kind)
        known = {} if operator is None else groups(type(operator.record))
        if operator is not None and operator.inner and ".in" in known:
            table[f"{kind}.in"] = tuple(f"{kind}.{name}" for name in operator.inner)
        if operator is not None and operator.writers and ".out" in known:
            table[f"{kind}.out"] = tuple(f"{kind}.{name}" for name in operator.writers)
    return table


def kept(network: Network) -> dict[str, Precision]:
    """Precision of each weight of a linear map, by its full name, in order of execution."""
    chosen = precisions(network.architecture)
    return {name: chosen[group] for group, names in groups_of(network).items() for name in names}


def kept_in_block(block: BlockModule) -> dict[str, Precision]:
    """Precision of each weight of one block, by its name in the block."""
    table: dict[str, Precision] = {}
    for names in block_groups(block).values():
        for name in names:
            kind, local = name.split(".")
            table[name] = getattr(block, kind).precision(local)
    return table


def settle(module: nn.Module) -> None:
    """Rounds binary and ternary weights and folds batch norms, in place for good: a graph of `module` has their results."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, BatchNormed):
                part.fold()
            if isinstance(part, OperatorModule):
                part.settle()
            elif isinstance(part, Network):
                _fold_norms(part)
                _fold_last(part)
                part.answer.settle(part)
                part.positions.settle(part)
                part.architecture = _settled(part.architecture)
    if isinstance(module, Network):
        carry(module.walk())


def carry(sublayers: Iterable[Sublayer]) -> None:
    """Lets settled operators in float32 take the stream that they are added to into their weights, in place for good."""
    with torch.no_grad():
        for at in sublayers:
            operator = at.operator
            if at.adds and all(operator.precision(name) == "fp32" for name in operator.outputs):
                operator.carry()


def _fold_norms(network: Network) -> None:
    """Lets the readers of every sub-layer take over a batch norm in front of them, where they can."""
    for at in network.walk():
        if foldable(at):
            fold(at)
            parent, _, last = at.norm_prefix.rpartition(".")
            setattr(network.get_submodule(parent), last, build_norm(Unnormed(), len(at.norm.gain)))


def _fold_last(network: Network) -> None:
    """Lets the head take over a batch norm in front of it, where it can."""
    if head_foldable(network):
        fold_last(network)
        network.norm = None


def _settled(architecture: Architecture) -> Architecture:
    """`architecture` with fp32 for every group that could have one or two bits."""
    groups = [group for group, options in allowed(architecture).items() if TRAINED[0] in options]
    return with_precisions(architecture, dict.fromkeys(groups, "fp32"))
