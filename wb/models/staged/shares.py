"""Heads and hidden units of a network divided among processes, each of which computes its share of every sub-layer.

Source: Shoeybi et al., "Megatron-LM: Training Multi-Billion Parameter Language Models Using Model Parallelism", 2019, section 3,
https://arxiv.org/abs/1909.08053: readers are cut by their outputs, writers by their inputs, and one sum over the processes
follows each sub-layer.
Differs: what is cut follows from the axes that parameters lie on, so that no operator is named here.
Limits: embeddings, norms, merges and heads are whole in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wb.core.architecture import Architecture, axis_dims, axis_sizes, resize
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import TRAINED
from wb.core.records.base import kind_of
from wb.models.named import axes_of
from wb.models.network import skeleton


@dataclass(frozen=True)
class Share:
    """Share `number` of `count`: its network, and which parts of the whole network's parameters that has.

    `cut` has the dimensions that are cut, with where they begin and end; `left` are parameters that the first share adds for all,
    zero in others.
    """

    architecture: Architecture
    number: int
    count: int
    cut: Mapping[str, Mapping[int, tuple[int, int]]]
    left: frozenset[str]


def share(architecture: Architecture, number: int, count: int) -> Share:
    """One of `count` shares of a network.

    Raises:
        BadOption: heads or hidden units of a sub-layer cannot be divided so.
        Unsupported: a sub-layer cannot be divided at all.
    """
    if count == 1:
        return Share(architecture, 0, 1, {}, frozenset())
    network, sizes, axes, biases = skeleton(architecture), axis_sizes(architecture), set[str](), set[str]()
    for at in network.walk():
        operator = at.operator
        if operator.divides is None:
            raise Unsupported(
                f"{at.kind} {kind_of(type(operator.record))!r} of {at.place} computes nothing that could be divided among "
                f"{count} processes; leave --tensor out (--pipeline takes any block)"
            )
        if any(operator.precision(name) in TRAINED for name in operator.outputs):
            raise Unsupported(
                f"{at.kind} of {at.place} has weights of one or two bits, whose scale is that of all inputs; leave --tensor out"
            )
        axis = f"{at.place}.{operator.divides}"
        if sizes[axis] % count:
            raise BadOption(
                f"{at.kind} of {at.place} has {sizes[axis]} {axis_dims(architecture)[axis].title}, which {count} processes "
                "cannot divide among them; give --tensor a divisor of the heads and hidden units of all blocks"
            )
        axes.add(axis)
        biases |= {bias for bias in at.writers.values() if bias is not None}
    each = {axis: sizes[axis] // count for axis in axes}
    cut = {
        name: {
            dim: (number * each[axis.name], (number + 1) * each[axis.name])
            for dim, axis in enumerate(dimensions)
            if axis is not None and axis.name in each
        }
        for name, dimensions in axes_of(network).items()
    }
    left = frozenset(biases if number else ())
    return Share(resize(architecture, each), number, count, {k: v for k, v in cut.items() if v}, left)
