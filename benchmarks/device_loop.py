"""Is it worth having the device in the loop? Two searches alike but for the device, and both fronts timed on the one device.

One search times and scores its candidates with OpenVINO (`--device openvino --score-on device`), the other with ONNX
Runtime (`--device cpu`), both among architectures and precisions. The front that was found for ONNX Runtime is carried
over: its networks are written once more in the way that OpenVINO is fast with (fixed ranges of activations), and those
that differ are also run as they are. All graphs are then timed with OpenVINO in one interleaved run, and scored with it.
What is compared is how long it takes to be as accurate: for every accuracy on the test images that both fronts reach, the
fastest network of each that has it. The front from the loop has to be faster.

    pip install 'wb[openvino]'
    python benchmarks/device_loop.py --folder loop

An interrupted run is continued by the same command.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from tables import Table, begin, parser_of, told

from wb.core.precision import precisions
from wb.data import Dataset
from wb.data import load as load_data
from wb.export.score import score
from wb.export.timing.measure import measure_latency
from wb.hardware.device import parse_device
from wb.models.model import Model, load
from wb.search.run import Run
from wb.search.writing import depends, write_graph
from wb.tasks.known import task_of

THERE, HERE = "openvino", "cpu"
FOUND, CARRIED, AS_IS = "found on openvino", "found on cpu, written for openvino", "found on cpu, as it is"


class Point(NamedTuple):
    """A network on the device: its accuracy, and its latency in multiples of the reference graph's."""

    accuracy: float
    ratio: float


@dataclass(frozen=True)
class One:
    """A network of a front, its graph for OpenVINO, and how many of its groups of weights are in 8 bits."""

    front: str
    number: int
    model: Model
    path: Path

    @property
    def low(self) -> str:
        """As `3 of 9`."""
        found = [*precisions(self.model.architecture).values()]
        return f"{found.count('int8')} of {len(found)}"


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where runs and graphs are kept")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--preset", default="tiny", help="of space vit")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=60, help="of the supernet")
    parser.add_argument("--finetune", type=int, default=20, help="epochs of each finalist")
    parser.add_argument("--finalists", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds of timing both fronts, at most")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    options, out = begin(arguments())
    device = parse_device(THERE).scoring("device")
    data = load_data(options.data)
    networks = [one for name in (THERE, HERE) for one in carried(searched(options, name), name, data, options)]
    told(f"timing {len(networks)} graphs")
    names = {f"{one.front}: {one.number}": one for one in networks}
    timed = measure_latency(
        {name: one.path for name, one in names.items()}, device, precision=0.03, cap_s=options.seconds
    )
    columns = ("front", "network", "groups in int8", "us", "95 %", "test accuracy")
    table, points = Table(f"Both fronts on OpenVINO, {data.name}", columns), dict[str, list[Point]]()
    for name, one in names.items():
        reading, accuracy = timed[name].reading, score(one.path, data.test, task_of(one.model.architecture), device)
        points.setdefault(one.front, []).append(Point(accuracy.value, timed[name].ratio.value))
        low, high = reading.interval or (reading.value,) * 2
        ends = f"{1000 * low:.1f} to {1000 * high:.1f}"
        times = (f"{1000 * reading.value:.1f}", ends, f"{100 * accuracy.value:.1f} %")
        table.row(one.front, str(one.number), one.low, *times)
    out.table(table)
    faster = [verdict(points, front, out.say) for front in (CARRIED, AS_IS) if front in points]
    if not faster[0] > 1:
        raise SystemExit(3)


def searched(options: argparse.Namespace, device: str) -> Run:
    """The run of the search for a device, which is begun, continued, or done already."""
    run = Run(options.folder / device)
    if not run.front_path.exists():
        given = ["--resume", str(run.folder)] if run.record_path.exists() else begun(options, device, run.folder)
        told(f"searching for {device}")
        subprocess.run([sys.executable, "-m", "wb", "search", *given], check=True, stdout=sys.stderr)
    return run


def begun(options: argparse.Namespace, device: str, folder: Path) -> list[str]:
    """The arguments of a new search."""
    numbers = {name: getattr(options, name) for name in ("trials", "epochs", "finetune", "finalists", "seed")}
    fixed = ["--space", "vit", "--precision", "int8,fp32", "--no-mirror", "--rungs", "none"]
    chosen = ["--data", options.data, "--preset", options.preset, "--device", device, "--score-on", "device"]
    return [*fixed, *chosen, *(f"--{name}={value}" for name, value in numbers.items()), "--out", str(folder)]


def carried(run: Run, device: str, data: Dataset, options: argparse.Namespace) -> Iterator[One]:
    """The front of a run as graphs for OpenVINO, and those graphs of another device's front that it would write otherwise."""
    for point in run.read_front():
        model, own = load(run.folder / point.model), run.folder / point.onnx
        if device == THERE:
            yield One(FOUND, point.id, model, own)
            continue
        path = options.folder / f"{point.id}.onnx"
        write_graph(model, path, "static", data, options.seed)
        yield One(CARRIED, point.id, model, path)
        if depends(model.architecture):
            yield One(AS_IS, point.id, model, own)


def verdict(points: Mapping[str, Sequence[Point]], front: str, say: Callable[[str], None]) -> float:
    """How many times as long a front takes as that from the loop, at equal accuracy, in the geometric mean; 0 where none is."""
    ratios = [math.log(other / own) for own, other in levels(points[FOUND], points[front])]
    if not ratios:
        say(f"No accuracy is reached both by the front {FOUND} and by that {front}.")
        return 0.0
    mean, least, most = (math.exp(value) for value in (fmean(ratios), min(ratios), max(ratios)))
    say(
        f"To be as accurate, the front {front} takes {mean:.2f} times as long as the one {FOUND} ({least:.2f} to {most:.2f} "
        f"at {len(ratios)} accuracies that both reach)."
    )
    return mean


def levels(own: Sequence[Point], other: Sequence[Point]) -> Iterator[tuple[float, float]]:
    """The latencies of the fastest networks of both fronts that are as accurate, for every accuracy that both reach."""
    for accuracy in sorted({point.accuracy for point in (*own, *other)}):
        able = [[point.ratio for point in front if point.accuracy >= accuracy] for front in (own, other)]
        if all(able):
            yield min(able[0]), min(able[1])


if __name__ == "__main__":
    main()
