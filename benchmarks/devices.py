"""A device elsewhere against this machine: do latencies agree, and what does the channel cost?

Meant for addresses of this machine itself (`local`, or ssh to 127.0.0.1, see `device_setup.sh`): each graph is timed here and
there in turn, several times. Ratios to the reference should agree within their intervals. The channel's cost is the time from
having a file to the first batch, and that of a batch, less the same here.

    python benchmarks/devices.py local
    python benchmarks/devices.py "$(benchmarks/device_setup.sh ssh FOLDER)"
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from tables import Table, begin, parser_of

from wb.export.timing.bench import bench_of
from wb.export.timing.measure import Latency, measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, parse_device

GRAPHS = {"16 tokens, 16 channels, 1 layer": (16, 16, 1), "64, 64, 4": (64, 64, 4), "196, 192, 6": (196, 192, 6)}
MOST_S = 0.3  # that an evaluation may take longer there


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("address", help="as for --device")
    parser.add_argument("--times", type=int, default=3, help="measurements of each graph, here and there")
    parser.add_argument("--cap", type=float, default=5.0, help="seconds of one, at most")
    return parser


def main() -> None:
    options, out = begin(arguments())
    there, here = parse_device(options.address), parse_device()
    table = Table(
        f"{options.times} measurements of each graph, in turn",
        ("graph", "here, x", "there, x", "intervals that meet", "until the first batch, s", "a batch, s"),
    )
    most = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in GRAPHS.items():
            path = Path(folder) / "graph.onnx"
            path.write_bytes(transformer_graph(*sizes))
            pairs = [tuple(ratio(path, device, options.cap) for device in (here, there)) for _ in range(options.times)]
            meet = sum(meets(*pair) for pair in pairs)
            starts, batches = zip(*(costs(path, device) for device in (here, there)), strict=True)
            more = [after - before for before, after in (starts, batches)]
            most = max(most, more[0])
            means = [median(pair[i].ratio.value for pair in pairs) for i in (0, 1)]
            table.row(name, *(f"{mean:.3f}" for mean in means), f"{meet} of {len(pairs)}", *(f"{s:+.3f}" for s in more))
    out.table(table)
    out.say(f"An evaluation takes at most {most:.2f} s longer there (target {MOST_S:g}).")
    if most > MOST_S:
        raise SystemExit(3)


def ratio(path: Path, device: Device, cap_s: float) -> Latency:
    """A latency as a multiple of the reference."""
    return measure_latency({"graph": path}, device, cap_s=cap_s)["graph"]


def meets(a: Latency, b: Latency) -> bool:
    """Whether two intervals have a number in common."""
    (low, high), (below, above) = (one.ratio.interval or (one.ratio.value,) * 2 for one in (a, b))
    return low <= above and below <= high


def costs(path: Path, device: Device) -> tuple[float, float]:
    """The seconds from having a file to being ready for samples, and of a batch of five; medians of five."""
    starts, batches = [], []
    for _ in range(5):
        begun = time.perf_counter()
        bench = bench_of({"graph": path}, device, 1, 0)
        starts.append(time.perf_counter() - begun)
        for _ in range(3):
            begun = time.perf_counter()
            bench.run(["graph"] * 5)
            batches.append(time.perf_counter() - begun)
    return median(starts), median(batches)


if __name__ == "__main__":
    main()
