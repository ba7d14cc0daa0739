"""The front of a search, and the judgement by its requirements, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

    from wb.core.measures.readings import Reading
    from wb.search.judgement.record import Judgement
    from wb.search.results.point import FrontPoint


def front_table(points: Sequence[FrontPoint], *, energy: bool) -> Group:
    """The front as a table, with notes on quality below; `energy` adds its column, for runs that had it as an objective."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.jobs.calls.shown import noted

    table = Table(title="front, by latency", title_justify="left", box=SIMPLE)
    apart = {"memory": ("MB\nmemory", 1e6), "load": ("ms\nto load", 1.0)}  # of runs that asked for them
    there = [name for name in apart if points and all(name in point.values for point in points)]
    costs = ("kB", "kMACs", "params", *(["~nJ"] if energy else []), *(apart[name][0] for name in there))
    unit = "%\n± pts" if not points or points[0].test.unit == "fraction" else f"{points[0].quality}\n± %"
    for column in ("id", f"val {unit}", f"test {unit}", "ms\n± %", *costs):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("network")
    for point in points:
        values = point.values
        table.add_row(
            str(point.id),
            *(_two_lines(reading) for reading in (point.validation, point.test, values["latency"])),
            f"{values['size'].value / 1e3:.4g}",
            f"{values['macs'].value / 1e3:.4g}",
            f"{values['params'].value:.0f}",
            *([f"{values['energy'].value / 1e3:.4g}"] if energy else []),
            *(f"{values[name].value / apart[name][1]:.4g}" for name in there),
            summary(point),
        )
    what = unit.partition("\n")[0]
    validation = [(f"val {what} of {point.id}", point.validation) for point in points]
    tests = [(f"test {what} of {point.id}", point.test) for point in points]
    worse = [f"{point.id}: {remark.text}" for point in points if (remark := point.worse) is not None]
    noise = [f"{point.id}: {point.unsure.text()}" for point in points if point.unsure is not None]
    noise += [
        f"{point.id} stands for {', '.join(map(str, point.alike))}, which nothing tells from it"
        for point in points
        if point.alike
    ]
    return Group(table, *(Text(line) for line in (*noted([*validation, *tests]), *worse, *noise)))


def judgement_table(judgement: Judgement) -> Group:
    """The judgement by the requirements: a row for each network, and what else there is to say below."""
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.search.judgement.shown import rows, sentences

    table = Table(title="requirements, the nearest first", title_justify="left", box=SIMPLE)
    for column in ("id", *judgement.requirements):
        table.add_column(Text(column), justify="right" if column == "id" else "left")
    for row in rows(judgement):
        table.add_row(*map(Text, row))
    return Group(table, *map(Text, sentences(judgement)))


def _two_lines(reading: Reading) -> str:
    """The value and its spread on two lines, for a column whose heading has the units: percent and points, or ms and percent."""
    value = reading.plain().removesuffix(f" {reading.unit}").removesuffix(" %")
    return f"{value}\n{reading.spread().removesuffix(' points').removesuffix(' %')}".rstrip()


def summary(point: FrontPoint) -> str:
    """A network in a line, `embed 16: pool, 2x softmax 4; 5 of 14 groups int8`: mixers in order with heads, and precisions."""
    from collections import Counter
    from itertools import groupby

    from wb.core.architecture import Architecture
    from wb.core.precision import precisions
    from wb.core.records import dims, kind_of

    architecture = Architecture.model_validate(point.architecture)
    names = []
    for _, _, block in architecture.compact().blocks():
        _, first = next(block.parts())  # the feed-forward where there is no mixer
        outer = dict.fromkeys(dim.within for dim in dims(type(first)).values() if dim.within is not None)
        names.append(" ".join([kind_of(type(first)), *(str(getattr(first, width)) for width in outer)]))
    runs = [(name, len(list(group))) for name, group in groupby(names)]
    listed = ", ".join(name if count == 1 else f"{count}x {name}" for name, count in runs)
    low = Counter(p for p in precisions(architecture).values() if p != "fp32")
    kept = "".join(f"; {count} of {len(precisions(architecture))} groups {p}" for p, count in low.items())
    twin = f"; {point.twin}" if point.twin else ""
    return f"embed {architecture.stages[0].embed}: {listed or 'no blocks'}{kept}{twin}"
