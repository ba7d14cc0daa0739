"""Workers on real cores: evaluations an hour of one worker and of several, and what an evaluation costs beside itself.

    python benchmarks/crew_cores.py [--workers 2] [--trials 100] [--repeats 3] [--storage URL] [--ray local]

Searches of the digits, alike but for the processes that evaluate: one, --workers of them, the same with the study in --storage,
and the same on a cluster of Ray at --ray. Only evaluations count, as one process does everything else. They take turns, so that
a machine that slows down slows all; the median of the repeats is shown. Efficiency is the pace over that of one worker times
the workers. Timing is one at a time on a machine, so that the share of it (`timing`) bounds how much faster workers make a
search: "at best" is 1 over it, or the number of workers. A search by accuracy and parameters times nothing.

"Beside" is the time from the beginning of a worker's candidate to that of its next, without the phases of the evaluation:
claiming, writing, proposing, and waiting for the storage; the median over candidates. Exit code 3: the efficiency without timing
is below 0.9. Needs as many free cores as workers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

from optuna.trial import FrozenTrial
from tables import Table, begin, parser_of, told

from wb.search.crew.pace import pace_of
from wb.search.run import Run
from wb.search.study.study import read_evaluated
from wb.search.study.trials import WORKER

SEARCH = ["--epochs", "1", "--finetune", "0", "--limit", "300", "--rungs", "none", "--finalists", "2"]
WANTED = 0.9


class Found(NamedTuple):
    """Of one search: evaluations an hour, the share of timing in an evaluation, of waiting in all, seconds beside each."""

    hourly: float
    timing: float
    waiting: float
    beside: float


def found_of(trials: Sequence[FrozenTrial]) -> Found:
    """What the trials of a search tell.

    Raises:
        SystemExit: there are too few.
    """
    pace = pace_of(trials)
    phases = [trial.user_attrs["seconds"] for trial in trials]
    beside = list(_beside(trials))
    if pace is None or not beside:
        raise SystemExit("too few candidates to tell a pace; give more --trials")
    work = sum(sum(one.values()) - one.get("wait", 0.0) for one in phases)
    return Found(pace.hourly, sum(one.get("time", 0.0) for one in phases) / work, pace.waiting, median(beside))


def _beside(trials: Sequence[FrozenTrial]) -> Iterator[float]:
    by_worker: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in trials:
        by_worker[str(trial.user_attrs.get(WORKER))].append(trial)
    for own in by_worker.values():
        begun = sorted((t.datetime_start, sum(t.user_attrs["seconds"].values())) for t in own if t.datetime_start)
        yield from ((after - before).total_seconds() - seconds for (before, seconds), (after, _) in pairwise(begun))


def search(objectives: str, trials: int, workers: int, extra: Sequence[str], reached: str | None) -> Found:
    """One search in a folder that is thrown away; `reached` is the URL of its storage, if that is no file of the run."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        words = [
            "--objectives",
            objectives,
            "--trials",
            str(trials),
            "--workers",
            str(workers),
            "-o",
            str(folder),
            *extra,
        ]
        subprocess.run(
            [sys.executable, "-m", "wb.cli.main", "search", *SEARCH, *words],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        run = Run(folder, reached)
        record = run.read()
        url = run.storage(record.config)
        return found_of(read_evaluated(url, record.study, record.config.metrics, record.config.limits))


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--storage", help="as for --storage of wb search; its user may see the password in the list of processes"
    )
    parser.add_argument("--ray", help="as for --ray of wb search")
    return parser


def main() -> None:
    options, out = begin(arguments())
    many = options.workers
    ways: dict[str, tuple[int, list[str], str | None]] = {
        "1 worker": (1, [], None),
        f"{many} workers": (many, [], None),
    }
    if options.storage:
        there = ["--storage", options.storage]
        ways["1 worker, --storage"] = (1, there, options.storage)
        ways[f"{many} workers, --storage"] = (many, there, options.storage)
    if options.ray:
        ways[f"{many} workers, --ray {options.ray}"] = (many, ["--ray", options.ray], None)
    missed = False
    for objectives in ("acc,latency", "acc,params"):
        runs: dict[str, list[Found]] = defaultdict(list)
        for repeat in range(options.repeats):
            for name, (workers, extra, reached) in ways.items():
                told(f"{objectives}: {name}, {repeat + 1} of {options.repeats}")
                runs[name].append(search(objectives, options.trials, workers, extra, reached))
        table = Table(
            f"{objectives}, {options.trials} evaluations of the digits, median of {options.repeats}",
            ("", "an hour", "efficiency", "at best", "timing %", "waiting for the clock %", "beside, ms"),
        )
        one = median(each.hourly for each in runs["1 worker"])
        for name, (workers, *_) in ways.items():
            hourly, timing, waiting, beside = (median(part) for part in zip(*runs[name], strict=True))
            best = 1.0 if workers == 1 else min(1.0, 1 / (timing * workers) if timing else 1.0)
            efficiency = hourly / (one * workers)
            table.row(
                name, f"{hourly:,.0f}", f"{efficiency:.2f}", f"{best:.2f}", f"{100 * timing:.0f}", f"{100 * waiting:.0f}",
                f"{1000 * beside:.0f}",
            )  # fmt: skip
            missed |= objectives == "acc,params" and name == f"{many} workers" and efficiency < WANTED
        out.table(table)
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
