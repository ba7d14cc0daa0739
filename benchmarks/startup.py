"""Startup time of `wb --help` (target: under 0.2 s), and a check that it imports no torch.

python benchmarks/startup.py [--markdown]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from tables import Table, begin, parser_of

RUNS = 10
TARGET_S = 0.2


def arguments() -> argparse.ArgumentParser:
    return parser_of(__doc__)


def main() -> None:
    _, out = begin(arguments())
    seconds, cpu = [], []
    for _ in range(RUNS):
        start, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "wb.cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
        after = os.times()
        cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    loaded = "import wb.cli.main, sys; print('torch' in sys.modules)"
    torch = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.strip()
    median, slowest = statistics.median(seconds), max(seconds)
    table = Table(f"wb --help, {RUNS} runs", ("what", "found", "target", ""), left=("target", ""))
    verdict = "met" if median < TARGET_S else "missed"
    table.row("median", f"{median:.3f} s", f"under {TARGET_S:g} s", verdict)
    table.row("median of CPU seconds", f"{statistics.median(cpu):.3f} s", "", "")
    table.row("slowest", f"{slowest:.3f} s", "", "")
    table.row("torch imported", torch, "False", "met" if torch == "False" else "missed")
    out.table(table)


if __name__ == "__main__":
    main()
