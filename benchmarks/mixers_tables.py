"""The tables of `benchmarks/mixers.py`: hypervolumes of two arms, accuracies within latencies, and what fronts are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
from tables import Output, Table

from wb.core.architecture import Architecture
from wb.search.results.mixers import COLUMNS, used

SOFTMAX, ALL = "softmax", "all"
ARMS = (SOFTMAX, ALL)
LIMITS = (1 / 8, 1 / 4, 1 / 2, 1)  # of the slowest latency, at which accuracies are compared
Rows = list[dict[str, Any]]


def within(front: Rows, limit: float) -> dict[str, Any] | None:
    """The network of a front that is best on validation among those within a latency."""
    fitting = [row for row in front if row["ratio"] <= limit]
    return max(fitting, key=lambda row: (row["validation"], -row["ratio"])) if fitting else None


def area(front: Rows, split: str, chance: float, most: float, least: float | None = None) -> float:
    """The mean accuracy above chance over all latencies up to `most`, in %; over their logarithms from `least` on."""
    edges = sorted({row["ratio"] for row in front if row["ratio"] <= most} | {most})
    total = 0.0
    for begin, end in itertools.pairwise(edges):
        width = end - begin if least is None else np.log(end / begin)
        best = within(front, begin)
        total += float(width) * (max(0.0, best[split] - chance) / (1 - chance) if best else 0.0)
    return 100 * total / float(most if least is None else np.log(most / least))


def report(title: str, seeds: Mapping[int, Any], chance: float, out: Output) -> None:
    """The tables of some seeds, each of which has for either arm its seconds, epochs and front."""
    ratios = [row["ratio"] for found in seeds.values() for arm in found.values() for row in arm["front"]]
    least, most = min(ratios), max(ratios)
    columns = (
        "mixers",
        "CPU s",
        "supernet epochs",
        "networks",
        "area, validation",
        "area, test",
        "log, test",
        "best, test %",
    )
    what = f"seeds {', '.join(map(str, seeds))}; latencies up to {most:.2f} times the reference graph's"
    table = Table(f"{title}, {what}", columns)
    areas: dict[str, list[tuple[float, ...]]] = {}
    for arm in ARMS:
        found = [seed[arm] for seed in seeds.values()]
        areas[arm] = [
            (
                area(one["front"], "validation", chance, most),
                area(one["front"], "test", chance, most),
                area(one["front"], "test", chance, most, least),
                100 * max(one["front"], key=lambda row: row["validation"])["test"],
            )
            for one in found
        ]
        counts = [spread([one["seconds"] for one in found], 0), spread([one["epochs"] for one in found], 0)]
        counts.append(spread([len(one["front"]) for one in found]))
        table.row(arm, *counts, *(spread(column) for column in zip(*areas[arm], strict=True)))
    gains = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(areas[ALL], areas[SOFTMAX], strict=True)]
    table.row(f"{ALL} - {SOFTMAX}", "", "", "", *(spread(column, sign="+") for column in zip(*gains, strict=True)))
    out.table(table)
    out.table(at_limits(seeds, most))
    for arm in ARMS:
        out.table(composed(arm, seeds))
    for line in joint(seeds):
        out.say(line)


def at_limits(seeds: Mapping[int, Any], most: float) -> Table:
    """Test accuracies of what is best on validation within some latencies."""
    limits = [share * most for share in LIMITS]
    columns = ("mixers", *(f"within {limit:.2f}x" for limit in limits))
    table = Table("test accuracy in % of the network that is best on validation within a latency", columns)
    for arm in ARMS:
        cells = []
        for limit in limits:
            found = [within(seed[arm]["front"], limit) for seed in seeds.values()]
            there = [100 * row["test"] for row in found if row is not None]
            some = f" ({len(there)} of {len(found)})" if len(there) < len(found) else ""
            cells.append(spread(there) + some if there else "–")
        table.row(arm, *cells)
    return table


def composed(arm: str, seeds: Mapping[int, Any]) -> Table:
    """Which mixer the fronts of an arm have at which depth: blocks of all networks and seeds."""
    table = Table(f"what the fronts with {arm} are made of: blocks, and networks that have one", COLUMNS)
    networks = [
        Architecture.model_validate(row["architecture"]) for seed in seeds.values() for row in seed[arm]["front"]
    ]
    for one in used(networks):
        table.row(*one.cells)
    return table


def joint(seeds: Mapping[int, Any]) -> Iterator[str]:
    """Of each seed, how many networks of both fronts together no network of either is better than on validation, by arm."""
    for seed, found in seeds.items():
        rows = [(arm, row) for arm in ARMS for row in found[arm]["front"]]
        left = [arm for arm, row in rows if not any(_better(other, row) for _, other in rows)]
        counts = " and ".join(f"{left.count(arm)} of {arm}" for arm in ARMS)
        yield f"Seed {seed}: the joint front on validation has {counts}."


def _better(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    same = one["ratio"] == other["ratio"] and one["validation"] == other["validation"]
    return not same and one["ratio"] <= other["ratio"] and one["validation"] >= other["validation"]


def spread(values: Sequence[float], digits: int = 1, sign: str = "") -> str:
    """Mean and, of several, standard deviation."""
    text = f"{fmean(values):{sign}.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text
