"""Draws the front of a run as a picture for the README: accuracy on the test split against measured latency.

python benchmarks/plot_front.py RUN -o docs/front.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator, NullFormatter

from wb.cli.searching.tables import summary
from wb.search.page.contents import read_trials
from wb.search.run import Run
from wb.search.study.trials import readings_of


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    return parser


def main() -> None:
    options = arguments().parse_args()
    run = Run(options.run)
    record, points = run.read(), run.read_front()
    everything = [readings_of(t) for t in read_trials(run, record)]
    figure, axes = plt.subplots(figsize=(9, 4.6), dpi=130)
    axes.scatter(
        [1e3 * r["latency"].value for r in everything],
        [100 * r["acc"].value for r in everything],
        s=14,
        color="#b8c4d6",
        label=f"{len(everything)} candidates, validation, before fine-tuning",
    )
    x = [1e3 * point.values["latency"].value for point in points]
    intervals = [point.values["latency"].interval or (0.0, 0.0) for point in points]
    errors = [
        [v - 1e3 * i[0] for v, i in zip(x, intervals, strict=True)],
        [1e3 * i[1] - v for v, i in zip(x, intervals, strict=True)],
    ]
    axes.step(x, [100 * point.values["acc"].value for point in points], where="post", color="#4c78c8", lw=1)
    axes.errorbar(
        x,
        [100 * point.values["acc"].value for point in points],
        xerr=errors,
        fmt="o",
        color="#4c78c8",
        capsize=2,
        label="front, validation, with 95 % interval of the latency",
    )
    axes.scatter(
        x,
        [100 * point.test.value for point in points],
        marker="D",
        color="#d0496e",
        zorder=3,
        s=26,
        label="front, test",
    )
    for point in (points[0], points[-1]):
        where = (1e3 * point.values["latency"].value, 100 * min(point.test.value, point.values["acc"].value))
        axes.annotate(summary(point), where, xytext=(8, -10), textcoords="offset points", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("latency of one image, µs, measured in ONNX Runtime on one thread")
    axes.set_ylabel("accuracy, %")
    axes.set_title(f"wb search on {record.config.data}: {len(points)} networks on the front", loc="left", fontsize=11)
    low = min(100 * min(point.test.value, point.values["acc"].value) for point in points)
    axes.set_ylim(low - 6, 100.8)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 0.08))
    figure.tight_layout()
    figure.savefig(options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
