"""What alternatives cost: counted, or timed part by part on a device; the sum is scaled to readings of whole networks.

Source: as `wb.compress.nvit.cost`, but for the fitted surface: there are few alternatives, so that each is timed itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wb.compress.nvit.cost import alone, pieces
from wb.compress.nvit.costs import Progress, counting, milliseconds, timing
from wb.core.architecture import Architecture, resize
from wb.export.timing.table import LatencyTable
from wb.search.alternatives.option import NONE, WHOLE, Option


@dataclass
class Costs:
    """One metric: of each alternative by slot and name, and of what no choice changes (`rest`: the ends and a call).

    The sum over a choice times `factor` plus `offset` is the prediction; `calibrate` sets these.
    """

    metric: str
    each: Mapping[tuple[str, str], float]
    rest: float
    factor: float = 1.0
    offset: float = 0.0

    def __call__(self, choice: Mapping[str, str]) -> float:
        """The predicted cost of the network that a choice makes."""
        return self.factor * (self.rest + sum(self.each[item] for item in choice.items())) + self.offset

    def calibrate(self, choice: Mapping[str, str], value: float) -> None:
        """Makes the prediction for a choice its reading. A file has a header besides its weights."""
        if self.metric == "size":
            self.offset += value - self(choice)
        else:
            self.factor *= value / self(choice)

    def room(self, limit: float) -> float:
        """What the alternatives of a choice may cost together, before `factor`."""
        return (limit - self.offset) / self.factor - self.rest


def costs_of(
    metric: str,
    architecture: Architecture,
    options: Mapping[str, Mapping[str, Option]],
    table: LatencyTable | None,
    progress: Progress | None = None,
) -> Costs:
    """The costs of a network's alternatives by slot and name; latency needs the `table` of a device."""
    sample = timing(table, progress) if metric == "latency" and table else counting(metric)
    ends = next(piece for piece in pieces(architecture) if piece.name == "ends")
    found: dict[tuple[str, str], float] = {}
    wanted, keys = [(alone(architecture, ends), ends)], []
    for slot, of_slot in options.items():
        for name, option in of_slot.items():
            if name == NONE:
                found[slot, name] = 0.0
                continue
            changed = architecture if name == WHOLE else resize(architecture, option.sizes)
            piece = next(piece for piece in pieces(changed) if piece.name == slot)
            wanted.append((alone(changed, piece), piece))
            keys.append((slot, name))
    rest, *each = sample(wanted)
    constant = milliseconds(table, []) if metric == "latency" and table else 0.0
    return Costs(metric, found | dict(zip(keys, each, strict=True)), rest + constant)
