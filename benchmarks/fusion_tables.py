"""The tables of the fusion benchmarks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import fmean, pstdev

from fusion_rows import Cells
from tables import Output, Table
from tables import told as progress

Found = Mapping[str, list[Cells]]  # by row, one for each pair


def spread(values: list[float], scale: float = 100, places: int = 1) -> str:
    """Mean and population standard deviation; a dash for none."""
    if not values:
        return "–"
    return f"{scale * fmean(values):.{places}f} ± {scale * pstdev(values):.{places}f}"


def show(
    out: Output, title: str, found: Found, columns: list[str], *, barrier: bool = True, interim: bool = False
) -> None:
    """The table, and which learning rates were chosen."""
    table = Table(title, ("", *columns, *(["barrier"] if barrier else []), "CPU s"))
    for name, pairs in found.items():
        values = [spread([c[column]["accuracy"] for c in pairs if column in c]) for column in columns]
        if barrier:
            values.append(spread([c["barrier"]["value"] for c in pairs if "barrier" in c], 1, 2))
        seconds = [c["seconds"]["value"] for c in pairs if "seconds" in c]
        table.row(name, *values, f"{fmean(seconds):.2f}" if seconds else "–")
    out.table(table, interim=interim)
    if interim:
        return
    for name, pairs in found.items():
        rates = {n: Counter(c[n]["rate"] for c in pairs if "rate" in c.get(n, {})) for n in columns}
        chosen = [f"{n}: " + ", ".join(f"{r:g} x{k}" for r, k in sorted(c.items())) for n, c in rates.items() if c]
        if chosen:
            out.say(f"learning rates, {name}: {'; '.join(chosen)}")


def told(label: str, cells: Cells) -> None:
    """Prints a row of one pair as it comes."""
    values = (f"{column} {100 * cell['accuracy']:.1f}" for column, cell in cells.items() if "accuracy" in cell)
    progress(f"{label}: {', '.join(values)}")
