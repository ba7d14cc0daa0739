"""Choosing a precision for each group: a multiple-choice knapsack, solved exactly.

Source: Yao et al., "HAWQ-V3", ICML 2021: one precision per layer by integer programming, minimising the sum of the layers'
sensitivities under limits on size and latency.
Differs: sensitivities and latencies are measured on exported graphs; the paper takes them from Hessians and kernels.
Limits: the effects of groups are assumed to add up, so the chosen graph has to be measured.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from wb.core.errors import Unsupported
from wb.core.records import Precision

_OPTIMAL, _INFEASIBLE = 0, 2  # scipy's status codes
_SHARE = 1e-2  # least error of a solution, relative to the scale: below, the solver's tolerance of 1e-6 would matter


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
    flat = [(group, option) for group, of_group in options.items() for option in _useful(of_group, least)]
    wanted = [([float(getattr(option, name)) for _, option in flat], value) for name, value in least.items()]
    errors = np.array([option.error for _, option in flat], dtype=float)
    scale = float(errors.max(initial=0.0))
    while True:
        taken = _solved([group for group, _ in flat], errors, wanted, scale)
        if taken is None:
            return None
        total = float(errors[taken].sum())
        if total >= _SHARE * scale:
            return {flat[i][0]: flat[i][1] for i in taken}
        scale = total  # no better solution has an option with a larger error; smaller errors now exceed the tolerance


def _useful(options: Sequence[Option], wanted: Collection[str]) -> list[Option]:
    """The options that are not dominated: no other one has at most the error and saves at least as much of `wanted`."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.error, *(-float(getattr(o, name)) for name in wanted))):
        if not any(all(getattr(one, name) >= getattr(option, name) for name in wanted) for one in kept):
            kept.append(option)
    return kept


def _solved(
    groups: Sequence[str], errors: NDArray[np.float64], wanted: Sequence[tuple[list[float], float]], scale: float
) -> NDArray[np.intp] | None:
    """The indices of the chosen options, none with an error above `scale`; None if there is no solution."""
    names = list(dict.fromkeys(groups))
    one = np.array([[group == name for group in groups] for name in names], dtype=float)
    constraints = [LinearConstraint(one, 1, 1)]
    for values, least in wanted:
        row = np.array(values, dtype=float)
        unit = float(np.abs(row).max(initial=abs(least))) or 1.0
        constraints.append(LinearConstraint(row / unit, least / unit, np.inf))
    upper = (errors <= scale).astype(float)
    found = milp(
        errors * upper / (scale or 1.0),
        integrality=np.ones(len(groups), dtype=np.int64),
        bounds=Bounds(0, upper),
        constraints=constraints,
        options={"mip_rel_gap": 0.0},
    )
    if found.status == _INFEASIBLE:
        return None
    if found.status != _OPTIMAL or found.x is None:
        raise Unsupported(f"the solver found no policy: {found.message}; give another budget")
    columns: NDArray[np.intp] = np.flatnonzero(found.x > 0.5)
    return columns
