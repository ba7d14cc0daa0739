"""The budget of a module's pruning: limits on what is counted, multiply-accumulates and parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wb.compress.depgraph.graph import Size
from wb.compress.depgraph.importance import Cost
from wb.core.errors import BadOption
from wb.core.measures.metrics import Limit


def check_countable(limits: Sequence[Limit]) -> None:
    """Raises `BadOption` unless there is a limit, and all limits are on MACs or parameters."""
    for limit in limits:
        if limit.metric.name not in Size._fields:
            raise BadOption(f"a budget on {limit.metric.name} cannot be counted in a module; give macs=… or params=…")
    if not limits:
        raise BadOption("there is no budget; give for example macs=0.5x")


@dataclass(frozen=True)
class Budget:
    """Absolute limits on MACs and parameters, None for no limit; and the default cost of the saliency."""

    macs: float | None
    params: float | None
    cost: Cost

    @staticmethod
    def of(limits: Sequence[Limit], dense: Size) -> Budget:
        """The budget of `limits`; relative ones are shares of `dense`. Raises as `check_countable`."""
        check_countable(limits)
        values: dict[str, float] = {}
        for limit in limits:
            name = limit.metric.name
            values[name] = limit.value * (getattr(dense, name) if limit.relative else 1)
        return Budget(values.get("macs"), values.get("params"), "macs" if next(iter(values)) == "macs" else "params")

    def fill(self, size: Size) -> float:
        """`size` as a share of its limit, the largest over all limits: at most 1 if all are kept."""
        pairs = ((size.macs, self.macs), (size.params, self.params))
        return max(value / limit for value, limit in pairs if limit is not None)

    def text(self) -> str:
        """The limits as text, for a message."""
        pairs = (("macs", self.macs), ("params", self.params))
        return ", ".join(f"{name} <= {limit:,.0f}" for name, limit in pairs if limit is not None)
