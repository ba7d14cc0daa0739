"""How long `wb --help` takes (target: under 0.5 s), and that it leaves torch alone.

python benchmarks/startup.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 10


def main() -> None:
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "wb.cli.main", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    loaded = "import wb.cli.main, sys; print('torch' in sys.modules)"
    torch = subprocess.run([sys.executable, "-c", loaded], check=True, capture_output=True, text=True).stdout.strip()
    print(
        f"wb --help: median {statistics.median(seconds):.3f} s, slowest {max(seconds):.3f} s of {RUNS} (target 0.5 s)"
    )
    print(f"torch imported: {torch} (target False)")


if __name__ == "__main__":
    main()
