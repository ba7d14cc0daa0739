"""The tables of the fusion benchmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import fmean, pstdev

from fusion_rows import Cells
from rich.console import Console
from rich.table import Table

Found = Mapping[str, list[Cells]]  # by row, one for each pair


def spread(values: list[float], scale: float = 100, places: int = 1) -> str:
    """Mean and population standard deviation; a dash for none."""
    if not values:
        return "–"
    return f"{scale * fmean(values):.{places}f} ± {scale * pstdev(values):.{places}f}"


def show(title: str, found: Found, columns: list[str], *, barrier: bool = True) -> None:
    """The table, and which learning rates were chosen."""
    table = Table(title=title)
    table.add_column("")
    for column in (*columns, *(["barrier"] if barrier else []), "CPU s"):
        table.add_column(column, justify="right")
    for name, pairs in found.items():
        values = [spread([c[column]["accuracy"] for c in pairs if column in c]) for column in columns]
        if barrier:
            values.append(spread([c["barrier"]["value"] for c in pairs if "barrier" in c], 1, 2))
        seconds = [c["seconds"]["value"] for c in pairs if "seconds" in c]
        table.add_row(name, *values, f"{fmean(seconds):.2f}" if seconds else "–")
    Console(width=130).print(table)
    for name, pairs in found.items():
        rates = {n: Counter(c[n]["rate"] for c in pairs if "rate" in c.get(n, {})) for n in columns}
        chosen = [f"{n}: " + ", ".join(f"{r:g} x{k}" for r, k in sorted(c.items())) for n, c in rates.items() if c]
        if chosen:
            print(f"  learning rates, {name}: {'; '.join(chosen)}")


def told(label: str, cells: Cells) -> None:
    """Prints a row of one pair as it comes."""
    values = (f"{column} {100 * cell['accuracy']:.1f}" for column, cell in cells.items() if "accuracy" in cell)
    print(f"{label}: {', '.join(values)}", flush=True)
