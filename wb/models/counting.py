"""Counting without running: parameters, their bytes, and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from wb.core.architecture import Architecture
from wb.core.layout import Layout
from wb.core.measures.readings import Reading
from wb.core.precision import BITS, precisions
from wb.core.records import Join, Operator, Precision
from wb.models.block import build_join, build_operator
from wb.models.feeds import shapes_only
from wb.models.groups import groups_of
from wb.models.layers.planes import laid
from wb.models.network import skeleton


class Operations(NamedTuple):
    """Multiply-accumulates of one part of a network, the precision of its weights, and how many of them are only additions."""

    macs: float
    precision: Precision = "fp32"
    additions: float = 0.0


def count_parameters(architecture: Architecture) -> Reading:
    """Number of parameters of the network."""
    count = sum(p.numel() for p in skeleton(architecture).parameters())
    return Reading(value=count, unit="parameters", how="counted")


def count_bytes(architecture: Architecture) -> Reading:
    """Bytes of the parameters in a file, each in its precision.

    Limits: the graph itself, constants of operators and int8's scales (one per row) are not counted.
    """
    network = skeleton(architecture)
    kept, bits = precisions(architecture), 32.0 * sum(p.numel() for p in network.parameters())
    for group, names in groups_of(network).items():
        bits -= (32 - BITS[kept[group]]) * sum(network.get_parameter(name).numel() for name in names)
    return Reading(value=bits / 8, unit="B", how="counted")


def count_macs(architecture: Architecture) -> Reading:
    """Multiply-accumulates for one image, or one text of usual length: matrix products and convolutions, as torch counts them.

    They are counted on the `meta` device, where no fused kernel hides attention (on the CPU torch does not count it), and once
    for every operator, as networks of a search or of a pruning have most of theirs in common.
    Limits: norms, softmax, pooling and biases are not counted.
    """
    found = _ends(architecture.usual.bare())["Global"] + block_macs(architecture)
    return Reading(value=found, unit="MAC", how="counted")


def block_macs(architecture: Architecture) -> float:
    """Multiply-accumulates of the blocks alone, for one image: what `count_macs` counts without stem, merges and head."""
    architecture = architecture.usual
    found = sum(
        _operator_macs(record, stage.embed, layout) + _join_macs(block.join, stage.embed, layout)
        for stage, layout in zip(architecture.stages, architecture.layouts(), strict=True)
        for block in stage.blocks
        for record in (block.mixer, block.ffn)
        if record is not None
    )
    return architecture.input.views * found


@lru_cache(maxsize=4096)
def operations(architecture: Architecture) -> Mapping[str, Operations]:
    """Multiply-accumulates by part: every group of linear maps, and the products outside of them.

    `s0.b3.mixer.products` are a mixer's products of activations (queries with keys) and its depthwise and fixed convolutions,
    `s0.b3.mixer.join` those of the join behind it.
    """
    architecture = architecture.usual
    network, counts, views = skeleton(architecture), _ends(architecture.bare()), architecture.input.views
    kept, groups = precisions(architecture), groups_of(network)
    found = {"stem": Operations(counts.get("Network.stem", 0.0), kept["stem"])}
    for i in range(1, len(network.stages)):
        found[f"s{i}.merge"] = Operations(counts[f"Network.merges.{i - 1}"], kept[f"s{i}.merge"])
    for at in network.walk():
        linear = 0.0
        for group, maps in ((f"{at.name}.in", at.operator.inner), (f"{at.name}.out", list(at.operator.writers))):
            if group in groups:
                used = sum(at.operator.get_parameter(name).numel() * at.operator.times(name) for name in maps)
                found[group] = Operations(float(used * views), kept[group])
                linear += found[group].macs
        embed = architecture.stages[at.stage].embed
        if rest := views * _operator_macs(at.operator.record, embed, at.operator.layout) - linear:
            found[f"{at.name}.products"] = Operations(rest, "fp32", float(views * at.operator.additions))
        if at.join is not None and (joining := _join_macs(at.join.record, embed, at.operator.layout)):
            found[f"{at.name}.join"] = Operations(views * joining)
    weights = sum(network.get_parameter(name).numel() for name in groups["head"])
    rows = architecture.layout.tokens if architecture.head.foresees else 1  # it answers for every token, or once
    return found | {"head": Operations(float(weights * rows), kept["head"])}


@lru_cache(maxsize=4096)
def _ends(bare: Architecture) -> Mapping[str, float]:
    """Multiply-accumulates of a network without blocks, by the names of its modules; that of the whole is `Global`."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        skeleton(bare)(*shapes_only(bare.input.specs(), 1, bare.layout.tokens - bare.prefix).values())
    return {name: sum(found.values()) / 2 for name, found in counter.get_flop_counts().items()}


@lru_cache(maxsize=16384)
def _operator_macs(record: Operator, embed: int, layout: Layout) -> float:
    operator = build_operator(record, embed, layout, "meta").eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        operator(laid(torch.empty(1, layout.tokens, embed, device="meta"), layout))
    return float(counter.get_total_flops() / 2)


@lru_cache(maxsize=4096)
def _join_macs(record: Join | None, embed: int, layout: Layout) -> float:
    if record is None:
        return 0.0
    counter = FlopCounterMode(display=False)
    x = laid(torch.empty(1, layout.tokens, embed, device="meta"), layout)
    with counter, torch.no_grad():
        build_join(record, embed, "meta")(x, x)
    return float(counter.get_total_flops() / 2)


def operator_macs(record: Operator, embed: int, layout: Layout) -> Reading:
    """Multiply-accumulates of one operator for one image, counted as `count_macs` does."""
    return Reading(value=_operator_macs(record, embed, layout), unit="MAC", how="counted")


def join_macs(record: Join, embed: int, layout: Layout) -> Reading:
    """The same of a join."""
    return Reading(value=_join_macs(record, embed, layout), unit="MAC", how="counted")
