"""What is known of a network of space `vit` without building it: roughly its bytes, its work, and how much is quantized.

Predictors read these beside the choices. Both numbers are products of widths, which a sum over choices cannot express and
which a few dozen evaluations do not teach.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

from wb.core.architecture import Architecture
from wb.core.precision import BITS
from wb.core.records import Operator, Precision, Weighted
from wb.models.network import build_operator
from wb.models.operators._base import Grid


def traits(architecture: Architecture) -> tuple[float, ...]:
    """Bytes of the linear maps, their multiply-accumulates, the logarithms of both, and the groups below fp32.

    Limits: stem, norms, positions and products of activations are left out.
    """
    tokens = math.prod(architecture.grid)
    bits, macs, low = 0.0, 0.0, 0
    for weights, precision in _groups(architecture):
        bits += weights * BITS[precision]
        macs += weights * tokens
        low += precision != "fp32"
    macs -= _head(architecture) * (tokens - 1)  # it reads the tokens' mean, or one of them
    size = bits / 8
    return size, macs, math.log1p(size), math.log1p(macs), float(low)


def _groups(architecture: Architecture) -> Iterator[tuple[int, Precision]]:
    """Every group of the blocks, and the head: number of weights, and what they are kept in."""
    for _, stage, block in architecture.blocks():
        for operator in block.operators:
            if isinstance(operator, Weighted):
                plain = operator.model_copy(update={"reads": "fp32", "writes": "fp32"})
                inner, outer = _weights(plain, stage.embed)
                yield inner, operator.reads
                yield outer, operator.writes
    yield _head(architecture), architecture.head


def _head(architecture: Architecture) -> int:
    return architecture.stages[-1].embed * architecture.classes


@lru_cache(maxsize=16384)
def _weights(operator: Operator, embed: int) -> tuple[int, int]:
    """How many weights of an operator read the stream, or stand between, and how many write to it."""
    module = build_operator(operator, embed, Grid(1, 1), "meta")
    inner = sum(module.get_parameter(name).numel() for name in (*module.readers, *module.between))
    return inner, sum(module.get_parameter(name).numel() for name in module.writers)
