"""What alternatives cost: counted, or timed part by part on a device; the sum is scaled to readings of whole networks.

Source: as `wb.compress.nvit.cost`, but for the fitted surface: there are few alternatives, so that each is timed itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from wb.compress.nvit.cost import alone, pieces
from wb.compress.nvit.costs import counting, milliseconds, timing
from wb.core.architecture import Architecture
from wb.core.commands.progress import Count
from wb.core.measures.metrics import LATENCIES, METRICS
from wb.core.measures.readings import scaled
from wb.export.timing.table import LatencyTable
from wb.search.alternatives.option import NONE, WHOLE, Option

ABOVE = 1.1  # times the least there is: the least itself is one network only


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
    progress: Count | None = None,
) -> Costs:
    """The costs of a network's alternatives by slot and name; latency needs the `table` of a device."""
    sample = timing(table, progress, metric) if metric in LATENCIES and table else counting(metric)
    ends = next(piece for piece in pieces(architecture) if piece.name == "ends")
    found: dict[tuple[str, str], float] = {}
    wanted, keys = [(alone(architecture, ends), ends)], []
    for slot, of_slot in options.items():
        for name, option in of_slot.items():
            if name == NONE:
                found[slot, name] = 0.0
                continue
            changed = option.applied(architecture)
            piece = next(piece for piece in pieces(changed) if piece.name == slot)
            wanted.append((alone(changed, piece), piece))
            keys.append((slot, name))
    rest, *each = sample(wanted)
    constant = milliseconds(table, []) if metric in LATENCIES and table else 0.0
    return Costs(metric, found | dict(zip(keys, each, strict=True)), rest + constant)


def without_all(
    metric: str,
    architecture: Architecture,
    reading: float,
    table: LatencyTable | None,
    progress: Count | None = None,
) -> float:
    """The least that any choice costs, which needs no library: with nothing in the place of every sub-layer.

    It is in readings of whole networks, of which the given one has `reading`.
    """
    slots = [piece.name for piece in pieces(architecture) if piece.name != "ends"]
    both = {slot: {name: Option(slot=slot, name=name) for name in (WHOLE, NONE)} for slot in slots}
    costs = costs_of(metric, architecture, both, table, progress)
    costs.calibrate(dict.fromkeys(slots, WHOLE), reading)
    return costs(dict.fromkeys(slots, NONE))


def unreachable(aims: Mapping[str, float], least: Mapping[str, float], whole: Mapping[str, float]) -> str:
    """What to say of aims by metric that no choice keeps; `least` is what can be reached, `whole` what the model costs."""
    over = [metric for metric, aim in aims.items() if least[metric] > aim] or list(aims)

    def amount(metric: str, value: float) -> str:
        return f"{scaled(value, METRICS[metric].unit)}, {value / whole[metric]:.3g}x"

    texts = " and ".join(
        f"{METRICS[name].title} {amount(name, aims[name])} (the least there is: {amount(name, least[name])})"
        for name in over
    )
    shares = {name: math.ceil(100 * ABOVE * least[name] / whole[name]) / 100 for name in over}
    enough = ",".join(f"{name}={share:g}x" for name, share in shares.items())
    narrow = "arrow the stream first with `wb prune nvit`"
    return (
        f"no choice of alternatives has {texts}: even with nothing in the place of every sub-layer, the ends of the network "
        "and the width of its stream stay as they are. "
        + (f"Give a higher budget (--budget {enough}), or n{narrow}" if max(shares.values()) < 1 else f"N{narrow}")
    )
