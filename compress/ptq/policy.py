"""Choosing a precision for each group: a multiple-choice knapsack, solved exactly.

Source: Yao et al., "HAWQ-V3", ICML 2021: one precision per layer by integer programming, minimising the sum of the layers'
sensitivities under limits on size and latency.
Differs: sensitivities and latencies are measured on exported graphs; the paper takes them from Hessians and kernels.
Limits: the effects of groups are assumed to add up, so the chosen graph has to be measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wb.core import program
from wb.core.records import Precision


@dataclass(frozen=True)
class Option:
    """A precision of one group: the error that it adds, and the bytes and milliseconds that it saves against fp32."""

    precision: Precision
    error: float
    saved: float
    faster: float = 0.0


Options = Mapping[str, Sequence[Option]]  # by group, at least one each


def solve(options: Options, *, saved: float | None = None, faster: float | None = None) -> dict[str, Option] | None:
    """The option of each group such that they save at least `saved` bytes and `faster` ms together, with least summed error.

    Errors must not be negative. None if no choice saves so much.

    Raises:
        Unsupported: the solver stopped without an answer.
    """
    least = {name: value for name, value in (("saved", saved), ("faster", faster)) if value is not None}
    items = {
        group: [
            program.Item(str(i), option.error, {name: -float(getattr(option, name)) for name in least})
            for i, option in enumerate(of_group)
        ]
        for group, of_group in options.items()
    }
    found = program.solve(items, {name: -value for name, value in least.items()})
    return None if found is None else {group: options[group][int(item.name)] for group, item in found.items()}
