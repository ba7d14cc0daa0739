"""Traits of a network, computed without exporting it: bytes, multiply-accumulates, counts of its parts.

They are features of predictors, beside the choices. Size and latency are nearly linear in traits and choices together. Bytes
and multiply-accumulates are products of widths, which no sum over choices expresses and which a few dozen evaluations do
not teach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from wb.core.architecture import Architecture
from wb.core.layout import Layout
from wb.core.precision import BITS
from wb.core.records import Operator, Precision, dims, groups, kind_of
from wb.models.block import build_operator
from wb.models.layers.planes import laid


@dataclass
class Traits:
    """Traits of a network, without norms and positions; work is in multiply-accumulates for one image.

    Stem and merges are left out.
    """

    size: float = 0.0
    """Bytes of the parameters of operators and of the head's weight, each in its precision, and of the operators' constants."""
    floating: float = 0.0
    """Work of linear maps kept in fp32."""
    quantized: float = 0.0
    """Work of linear maps kept in less."""
    products: float = 0.0
    """Work of products of activations, and of fixed and depthwise convolutions."""
    low: float = 0.0
    """Groups kept in less than fp32, the stem not among them."""
    stem: float = 0.0
    """1 where the stem is kept in less than fp32."""
    blocks: float = 0.0
    heads: float = 0.0
    embed: float = 0.0
    stream: float = 0.0
    """Channels of the stream, summed over the blocks."""
    parameters: float = 0.0
    """Those of operators and of the head's weight, and the operators' constants."""

    def add(self, weights: int, precision: Precision, tokens: int) -> None:
        """Adds one group of linear maps."""
        self.size += weights * BITS[precision] / 8
        self.parameters += weights
        if precision == "fp32":
            self.floating += weights * tokens
        else:
            self.quantized += weights * tokens
            self.low += 1


class _Counts(NamedTuple):
    inner: int  # weights that read the stream, or lie between readers and writers
    outer: int  # weights that write to it
    other: int  # all other parameters and constants
    products: float


def traits(architecture: Architecture, counted: Sequence[str]) -> tuple[float, ...]:
    """The fields of `Traits`, the number of operators of each kind in `counted`, and the logarithms of bytes, work, parameters.

    Parameters count alike in any precision: what a network can learn goes with them, and with work, rather than with bytes.
    """
    architecture = architecture.usual
    layouts, head = list(architecture.layouts()), architecture.head
    found = Traits(stem=float(architecture.stem.precision != "fp32"), embed=architecture.stages[-1].embed)
    kinds = dict.fromkeys(counted, 0.0)
    for name, stage, block in architecture.blocks():
        layout = layouts[int(name[1 : name.index(".")])]
        if not block.off:
            found.blocks += 1
            found.stream += stage.embed
        for _, operator in block.parts():
            kinds[kind_of(type(operator))] += 1
            found.heads += sum(getattr(operator, name) for name in _outer(type(operator)))
            _add(found, operator, stage.embed, layout)
    answers, rows = head.classes, 1
    if head.foresees:
        answers, rows = architecture.input.specs()[0].below or 0, layouts[-1].tokens
    found.add(architecture.stages[-1].embed * answers, head.precision, rows)
    work = found.floating + found.quantized + found.products
    logarithms = (math.log1p(total) for total in (found.size, work, found.parameters))
    return (*vars(found).values(), *kinds.values(), *logarithms)


@lru_cache
def _outer(operator: type[Operator]) -> tuple[str, ...]:
    """The widths that other widths lie within: heads."""
    known = dims(operator)
    return tuple(name for name in known if any(dim.within == name for dim in known.values()))


def _add(found: Traits, operator: Operator, embed: int, layout: Layout) -> None:
    fields = {ending: field for ending, (field, _) in groups(type(operator)).items()}
    plain = operator.model_copy(update=dict.fromkeys(fields.values(), "fp32"))  # one cache entry for all precisions
    counts = _counts(plain, embed, layout)
    for ending, weights in ((".in", counts.inner), (".out", counts.outer)):
        if ending in fields:
            found.add(weights, getattr(operator, fields[ending]), layout.tokens)
    found.size += 4 * counts.other
    found.parameters += counts.other
    found.products += counts.products


@lru_cache(maxsize=16384)
def _counts(operator: Operator, embed: int, layout: Layout) -> _Counts:
    module = build_operator(operator, embed, layout, "meta")
    inner = sum(module.get_parameter(name).numel() for name in module.inner)
    kept = ".out" in groups(type(operator))  # else they are in floating point, as all that belongs to no group
    outer = sum(module.get_parameter(name).numel() for name in module.writers) if kept else 0
    everything = sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
    counter: FlopCounterMode = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module.eval()(laid(torch.empty(1, layout.tokens, embed, device="meta"), layout))
    products = counter.get_total_flops() / 2 - (inner + outer) * layout.tokens
    return _Counts(inner, outer, everything - inner - outer, products)
