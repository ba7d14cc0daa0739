"""Checks a finished run of `make demo` against its targets, and every accuracy of its front from the ONNX file alone.

python benchmarks/demo.py RUN [--markdown]
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnxruntime
from tables import Table, begin, parser_of

from wb.data import Split, load
from wb.search.page.contents import read_trials
from wb.search.run import Run


def recompute(path: Path, split: Split) -> float:
    """Top-1 accuracy, computed with the runtime and numpy only."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"pixel_values": split.pixels()})
    return float(np.mean(logits.argmax(axis=1) == split.labels))


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("run", type=Path)
    return parser


def main() -> None:
    options, out = begin(arguments())
    run = Run(options.run)
    record, points = run.read(), run.read_front()
    data = load(record.config.data, image_size=record.config.image_size, limit=record.config.limit)
    equal = all(
        recompute(run.folder / point.onnx, data.test) == point.test.value
        and recompute(run.folder / point.onnx, data.validation) == point.values["acc"].value
        for point in points
    )
    latencies = [point.values["latency"].value for point in points]
    trials = read_trials(run, record)
    phases = defaultdict(list)
    for trial in trials:
        for phase, seconds in trial.user_attrs["seconds"].items():
            phases[phase].append(seconds)
    cost = [sum(trial.user_attrs["seconds"].values()) for trial in trials]
    best = max(point.test.value for point in points)
    seconds = sum(record.seconds.values())
    rows = [
        (
            "supernet, search and finalists",
            f"{sum(record.seconds.values()):.0f} s",
            "at most 360 s",
            sum(record.seconds.values()) <= 360,
        ),
        ("best test accuracy", f"{best:.4f}", "at least 0.985", best >= 0.985),
        ("points on the front", str(len(points)), "at least 5", len(points) >= 5),
        (
            "span of measured latency",
            f"{max(latencies) / min(latencies):.2f}x",
            "at least 2x",
            max(latencies) >= 2 * min(latencies),
        ),
        ("accuracies recomputed from the files", "equal" if equal else "DIFFERENT", "equal", equal),
        ("true evaluation, mean", f"{np.mean(cost):.2f} s", "at most 2.5 s", np.mean(cost) <= 2.5),
        ("true evaluation, slowest", f"{max(cost):.2f} s", "", True),
        *((f"  of it {name}, mean", f"{np.mean(seconds):.3f} s", "", True) for name, seconds in phases.items()),
    ]
    table = Table(str(run.folder), ("what", "found", "target", ""), left=("target", ""))
    for what, found, target, met in rows:
        table.row(what, found, target, "" if not target else "met" if met else "missed")
    out.table(table)


if __name__ == "__main__":
    main()
