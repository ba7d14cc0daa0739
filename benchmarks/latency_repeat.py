"""How repeatable is a latency? Times the same graphs in several fresh processes and prints the scatter between them.

    python benchmarks/latency_repeat.py [FILE.onnx ...] [--processes 10] [--load 4] [--precision 0.03] [--json | --markdown]

Without a file it times three built-in transformers of about 0.03, 0.3 and 5 ms, each in a measurement of its own. `--load N`
runs N busy processes meanwhile: half of them count in Python, half stream 20 MB arrays. Target: the ratio to the
reference graph scatters by less than 3 % (coefficient of variation) between processes.

Found on 2 shared cores of an AMD EPYC (Zen 5), 10 processes each, CV of ms / CV of the ratio / seconds a measurement:

    load of others   --load   0.03 ms              0.3 ms               5 ms
    about 4-6        0        1.2 % 0.4 % 0.6 s    1.6 % 0.5 % 0.8 s    2.1 % 1.0 % 2.0 s
    about 5          2        1.1 % 0.7 % 3.6 s    4.3 % 3.8 % 4.2 s    4.5 % 1.6 % 4.9 s
    about 5          4        2.5 % 1.1 % 3.7 s    3.8 % 2.8 % 4.5 s    0.9 % 2.0 % 4.1 s

The graph of 0.3 ms has 1.2 MB of weights, just more than the level-2 cache: what runs beside decides how many stay in it.
Within one process, too, its ratio wandered between 1.9 and 2.6 over seconds beside four busy processes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from tables import Output, Table, begin, parser_of

BUILT_IN = {"0.03ms": (17, 32, 3), "0.3ms": (65, 64, 6), "5ms": (197, 192, 5)}  # tokens, channels, layers
TARGET = 0.03
COUNT = "while True: sum(range(10**6))"
STREAM = "import numpy\na = numpy.ones(5_000_000, 'float32')\nwhile True: a = a * 1.0"


class Row(TypedDict):
    """The measurements of one process for one graph."""

    ms: float
    ms_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    clean: int
    rejected: int
    wall_s: float
    note: str | None


def once(files: list[str], precision: float) -> list[Row]:
    """The work of one process: measures each file by itself."""
    from wb.export.timing.measure import measure_latency
    from wb.hardware.device import parse_device

    rows: list[Row] = []
    for file in files:
        start = time.perf_counter()
        found = measure_latency({file: Path(file)}, parse_device(), precision=precision, seed=os.getpid())[file]
        ms, ratio = found.reading, found.ratio
        rows.append(
            Row(
                ms=ms.value,
                ms_interval=ms.interval or (ms.value, ms.value),
                ratio=ratio.value,
                ratio_interval=ratio.interval or (ratio.value, ratio.value),
                clean=found.clean,
                rejected=found.rejected,
                wall_s=time.perf_counter() - start,
                note=ms.note,
            )
        )
    return rows


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Runs `processes` busy processes beside the block."""
    running = [subprocess.Popen([sys.executable, "-c", (COUNT, STREAM)[i % 2]]) for i in range(processes)]
    try:
        time.sleep(1 if running else 0)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def scatter(values: list[float]) -> float:
    """The coefficient of variation."""
    return statistics.stdev(values) / statistics.fmean(values)


def half_width(value: float, interval: tuple[float, float]) -> str:
    """Half the interval in percent of the value, as text."""
    return f"±{50 * (interval[1] - interval[0]) / value:.1f} %"


def show(out: Output, name: str, rows: list[Row]) -> None:
    """The table of one graph."""
    columns = ("process", "ms", "95 % of ms", "ratio", "95 % of the ratio", "clean", "rejected", "wall s", "note")
    table = Table(name, columns, left=("note",))
    for number, row in enumerate(rows, 1):
        ms = (f"{row['ms']:.5g}", half_width(row["ms"], row["ms_interval"]))
        ratio = (f"{row['ratio']:.4f}", half_width(row["ratio"], row["ratio_interval"]))
        counts = (str(row["clean"]), str(row["rejected"]), f"{row['wall_s']:.2f}")
        table.row(str(number), *ms, *ratio, *counts, row["note"] or "")
    out.table(table, interim=True)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("files", nargs="*")
    parser.add_argument("--processes", type=int, default=10)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--precision", type=float, default=0.03)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    return parser


def main() -> int:
    """Prints the tables; 0 if every ratio scatters by less than the target, else 3."""
    options, out = begin(arguments())
    if options.once:
        print(json.dumps(once(options.files, options.precision)))
        return 0
    with TemporaryDirectory() as folder, busy(options.load):
        files = options.files or built_in(Path(folder))
        command = [sys.executable, __file__, "--once", "--precision", str(options.precision), *files]
        runs = [json.loads(subprocess.check_output(command)) for _ in range(options.processes)]
    graphs: dict[str, list[Row]] = {Path(file).stem: [run[i] for run in runs] for i, file in enumerate(files)}
    scatters = {name: scatters_of(rows) for name, rows in graphs.items()}
    if options.json:
        print(json.dumps({"processes": graphs, "scatter": scatters}, indent=2))
    else:
        report(out, graphs, scatters)
    return 0 if all(found["ratio"] < TARGET for found in scatters.values()) else 3


def built_in(folder: Path) -> list[str]:
    """Writes the built-in graphs."""
    from wb.export.timing.reference import transformer_graph

    for name, size in BUILT_IN.items():
        (folder / f"{name}.onnx").write_bytes(transformer_graph(*size))
    return [str(folder / f"{name}.onnx") for name in BUILT_IN]


def scatters_of(rows: list[Row]) -> dict[str, float]:
    """The scatter of milliseconds and of the ratio between processes, and the mean seconds of a measurement."""
    return {
        "ms": scatter([row["ms"] for row in rows]),
        "ratio": scatter([row["ratio"] for row in rows]),
        "wall_s": statistics.fmean(row["wall_s"] for row in rows),
    }


def report(out: Output, graphs: dict[str, list[Row]], scatters: dict[str, dict[str, float]]) -> None:
    """Prints a table for each graph and one of them all."""
    for name, rows in graphs.items():
        show(out, name, rows)
    processes = len(next(iter(graphs.values())))
    target = f"ratio: under {100 * TARGET:g} %"
    table = Table(
        f"coefficient of variation between {processes} processes",
        ("graph", "ms, median", "of ms", "of the ratio", "s per measurement", target),
    )
    for name, found in scatters.items():
        median = statistics.median(row["ms"] for row in graphs[name])
        cells = (f"{100 * found['ms']:.2f} %", f"{100 * found['ratio']:.2f} %", f"{found['wall_s']:.2f}")
        table.row(name, f"{median:.4g}", *cells, "met" if found["ratio"] < TARGET else "missed")
    out.table(table)


if __name__ == "__main__":
    sys.exit(main())
