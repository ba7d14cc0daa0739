"""The cost models that budgets need: `costs_of` makes one per metric, from counted parts or parts timed on a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from wb.compress.nvit.cost import Cost, Piece, Sample
from wb.core.architecture import Architecture, axis_sizes, kind_of_axis
from wb.core.commands.progress import Count
from wb.core.measures.metrics import LATENCIES
from wb.export.counting.count import model_energy
from wb.export.timing.blocks import parts, time_parts
from wb.export.timing.runs import LATENCY
from wb.export.timing.table import LatencyTable
from wb.models.counting import block_macs, count_bytes, count_macs, count_parameters


def costs_of(
    metrics: Iterable[str],
    dense: Architecture,
    table: LatencyTable | None,
    *,
    keep: frozenset[str] = frozenset(),
    align: int = 1,
    progress: Count | None = None,
) -> dict[str, Cost]:
    """The cost model of each metric for `dense` and what it can be pruned to; kinds of axes in `keep` keep their size.

    Latency needs the `table` of a device, and is timed at multiples of `align`.
    """
    fixed = _fixed(dense, keep)
    return {
        metric: (
            timed(dense, table, fixed, progress, align, metric)
            if metric in LATENCIES and table
            else counted(dense, metric, fixed)
        )
        for metric in metrics
    }


def counted(dense: Architecture, metric: str, fixed: frozenset[str] = frozenset()) -> Cost:
    """The cost model of a counted metric: MACs, parameters, bytes of parameters, or modelled energy."""
    cost = Cost(dense, counting(metric), fixed=fixed, extra=False)
    cost.prepare()
    return cost


def timed(
    dense: Architecture,
    table: LatencyTable,
    fixed: frozenset[str] = frozenset(),
    progress: Count | None = None,
    align: int = 1,
    run: str = LATENCY,
) -> Cost:
    """The cost model of a latency in milliseconds on the table's device; parts missing in the table are timed and stored there.

    `run` is the metric: of one that continues texts the latency of a prompt, or of a token.
    """

    cost = Cost(dense, timing(table, progress, run), fixed=fixed, align=align)
    cost.prepare()
    cost.constant = milliseconds(table, [])
    return cost


def counting(metric: str) -> Sample:
    """What counts the parts of networks, by a metric that is counted."""
    kinds = {"macs": count_macs, "params": count_parameters, "size": count_bytes, "energy": model_energy}

    @cache
    def count(architecture: Architecture) -> float:
        return kinds[metric](architecture).value

    def blocks(architecture: Architecture) -> float:
        return block_macs(architecture) if metric == "macs" else count(architecture) - count(architecture.bare())

    def sample(wanted: Sequence[tuple[Architecture, Piece]]) -> list[float]:
        return [count(a) if piece.name == "ends" else blocks(a) for a, piece in wanted]

    return sample


def timing(table: LatencyTable, progress: Count | None = None, run: str = LATENCY) -> Sample:
    """What gives the milliseconds of the parts of networks, without the overhead of a call; the table keeps them."""

    def sample(wanted: Sequence[tuple[Architecture, Piece]]) -> list[float]:
        found = [
            list(parts(architecture, run))[-1] for architecture, _ in wanted
        ]  # the ends, or the one block after them
        time_parts(found, table, progress)
        overhead = milliseconds(table, [])
        return [max(0.0, milliseconds(table, [part.key]) - overhead) for part in found]

    return sample


def untimed(
    dense: Architecture,
    table: LatencyTable,
    run: str = LATENCY,
    *,
    keep: frozenset[str] = frozenset(),
    align: int = 1,
) -> int:
    """How many parts `costs_of` would have to time for a latency, because the table lacks them; no table is created."""
    wanted: dict[str, None] = {}

    def sample(asked: Sequence[tuple[Architecture, Piece]]) -> list[float]:
        wanted.update(dict.fromkeys(list(parts(architecture, run))[-1].key for architecture, _ in asked))
        return [1.0] * len(asked)

    Cost(dense, sample, fixed=_fixed(dense, keep), align=align).prepare()
    known = table.lookup(wanted) if table.path.exists() else {}
    return sum(known.get(key) is None for key in wanted)


def _fixed(dense: Architecture, keep: frozenset[str]) -> frozenset[str]:
    """The axes of `dense` of a kind in `keep`."""
    return frozenset(name for name in axis_sizes(dense) if kind_of_axis(name) in keep)


def milliseconds(table: LatencyTable, keys: Sequence[str]) -> float:
    """The table's latency for a network of these parts, which it must have; without parts, the overhead of a call."""
    return table.estimate(keys).value
