"""Counting without running: parameters, their bytes, and multiply-accumulates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from wb.core.architecture import Architecture
from wb.core.precision import BITS, precisions
from wb.core.readings import Reading
from wb.core.records import Precision
from wb.models.feeds import shapes_only
from wb.models.groups import groups_of
from wb.models.network import Network, skeleton
from wb.models.operator import OperatorModule


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
    """Multiply-accumulates for one image: matrix products and convolutions, as torch counts them.

    They are counted on the `meta` device, where no fused kernel hides attention (on the CPU torch does not count it).
    Limits: norms, softmax, pooling and biases are not counted.
    """
    return Reading(value=_macs(architecture.compact()), unit="MAC", how="counted")


@lru_cache(maxsize=4096)
def _macs(compact: Architecture) -> float:
    return _counter(skeleton(compact)).get_total_flops() / 2


@lru_cache(maxsize=4096)
def operations(architecture: Architecture) -> Mapping[str, Operations]:
    """Multiply-accumulates by part: every group of linear maps, and the products outside of them.

    `s0.b3.mixer.products` are a mixer's products of activations (queries with keys) and its depthwise and fixed convolutions.
    """
    network = skeleton(architecture)
    counts = {name: sum(found.values()) / 2 for name, found in _counter(network).get_flop_counts().items()}
    kept, groups = precisions(architecture), groups_of(network)
    found = {"stem": Operations(counts.get("Network.stem", 0.0), kept["stem"])}
    for i, layout in enumerate(architecture.layouts()):
        if i > 0:
            found[f"s{i}.merge"] = Operations(counts[f"Network.merges.{i - 1}"], kept[f"s{i}.merge"])
        for group, names in groups.items():
            if group.startswith(f"s{i}.b"):
                weights = sum(network.get_parameter(name).numel() for name in names)
                found[group] = Operations(float(weights * layout.tokens * architecture.input.views), kept[group])
    for name, operator in network.named_modules():
        if isinstance(operator, OperatorModule) and (rest := _products(name, counts, found)):
            found[f"{_short(name)}.products"] = Operations(rest, "fp32", float(operator.additions))
    weights = sum(network.get_parameter(name).numel() for name in groups["head"])
    return found | {"head": Operations(float(weights), kept["head"])}


def _counter(network: Network) -> FlopCounterMode:
    counter: FlopCounterMode = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(*shapes_only(network.architecture.input.specs(), 1).values())
    return counter


def _products(name: str, counts: dict[str, float], found: dict[str, Operations]) -> float:
    """Multiply-accumulates of an operator outside its linear maps."""
    linear = sum(found[group].macs for group in (f"{_short(name)}.in", f"{_short(name)}.out") if group in found)
    return counts.get(f"Network.{name}", 0.0) - linear


def _short(module: str) -> str:
    """`stages.0.3.mixer` -> `s0.b3.mixer`."""
    _, stage, block, part = module.split(".")
    return f"s{stage}.b{block}.{part}"
