"""Thousands of workers, simulated: where a search stops being faster with more of them, and why.

    python benchmarks/crew_scale.py --run FOLDER [--storage URL] [--workers 1 8 … 1000] [--machine 8] [--stretch 1 100]

Time is virtual; what takes time is measured (`crew_costs.py`). Evaluations are drawn from those of a real run (--run), all their
phases together; --stretch makes all of them longer, as on larger data. On a machine one worker times at a time, and there are
--machine workers on each. The storage is measured with as many candidates under way as in the table, by CPU time of the worker
and, of PostgreSQL, of the server's process. The server has --cores cores. Planning is the guided sampler's CPU time for a batch,
on archives of several sizes.

"Each" is every worker proposing for itself, as `wb search` has it for up to 16 workers and where evaluations are so short
that one could not keep up; "one" is one at a time for all. What claims cost each one beside is left out, in favour of
"each". Efficiency is evaluations an hour over those of so many workers without any loss. What was lost is the workers' time:
at the clock (waiting to time), at the database (computing there, or waiting for it), for want of proposals (planning, or
waiting for a plan), at the end (no candidate is wanted any more). There are ten evaluations for each worker, and 300 at
least. With more candidates under way than were measured, costs are those of the most that were.
"""

from __future__ import annotations

import argparse
import heapq
import math
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from crew_costs import BATCH, INITIAL, Costs, measured
from tables import Table, begin, parser_of

from wb.search.run import Run
from wb.search.sampler.batched import PLANNED_BY
from wb.search.study.storage import file_url
from wb.search.study.study import read_evaluated

POLL_S = 0.2


def evaluations_of(folder: Path) -> list[tuple[float, float]]:
    """Seconds of each evaluation of a run: all but timing, and timing."""
    run = Run(folder)
    record = run.read()
    found = read_evaluated(run.storage(record.config), record.study, record.config.metrics, record.config.limits)
    phases = [{name: float(value) for name, value in trial.user_attrs["seconds"].items()} for trial in found]
    return [(sum(one.values()) - one.get("wait", 0) - one.get("time", 0), one.get("time", 0)) for one in phases]


@dataclass
class Simulation:
    """A search of so many workers in virtual time."""

    workers: int
    machine: int
    cores: int
    costs: Costs
    evaluations: Sequence[tuple[float, float]]
    one: bool
    seed: int = 0
    now: float = 0.0
    lost: Counter[str] = field(default_factory=Counter)
    busy: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.wanted = max(300, 10 * self.workers)
        self.rng = np.random.default_rng(self.seed)
        self.batch = max(BATCH, self.workers // PLANNED_BY)
        self.queue, self.begun, self.done, self.running = 0, 0, 0, 0
        self.planner: int | None = None
        self.clocks = [0.0] * -(-self.workers // self.machine)
        self.server = [0.0] * self.cores
        self.waiting: deque[tuple[int, float]] = deque()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.planning, self.mean = 0.5, float(np.mean([sum(each) for each in self.evaluations]))

    def at(self, when: float, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (when, self.count, what))

    def __call__(self) -> float:
        """Runs it; returns the seconds until the last evaluation ends."""
        for worker in range(self.workers):
            self.at(0.0, lambda worker=worker: self.ready(worker))  # type: ignore[misc]
        while self.events and self.done < self.wanted:
            self.now, _, what = heapq.heappop(self.events)
            what()
        useful = sum(self.busy[name] for name in ("evaluating",))
        self.lost["end"] = max(0.0, self.workers * self.now - useful - sum(self.lost.values()))
        return self.now

    def ready(self, worker: int) -> None:
        if self.begun + self.queue < self.wanted and self.short() and (not self.one or self.planner is None):
            self.plan(worker)
        elif self.queue:
            self.take(worker)
        else:
            self.waiting.append((worker, self.now))

    def short(self) -> bool:
        return self.queue < (self.needed() if self.one and self.done >= INITIAL else 1)

    def needed(self) -> int:
        """As `wb.search.crew.proposing.Proposer.needed` has it."""
        taken = math.ceil(self.workers * self.planning / self.mean)
        return max(1, self.workers // PLANNED_BY, min(taken, self.workers))

    def plan(self, worker: int) -> None:
        first = self.done < INITIAL
        seconds = self.costs.plan(self.done)
        batch = max(self.batch, self.needed()) if self.one else self.batch
        count = min(self.workers if first else batch, self.wanted - self.begun - self.queue)
        self.planner = worker
        add = self.costs.at(self.costs.adding, self.running) if self.one else 0.0
        self.lost["proposals"] += seconds + count * add
        self.busy["planning"] += seconds + count * add
        self.planning = seconds + count * add
        for i in range(count if self.one else 1):
            self.at(self.now + seconds + (i + 1) * add, lambda: self.add(1 if self.one else count))
        self.at(self.now + seconds + count * add, lambda: self.planned(worker))

    def add(self, count: int) -> None:
        """Of workers that plan each for itself the first publishes its plan, and the others throw theirs away."""
        if not self.one and self.queue:
            return
        self.queue += min(count, self.wanted - self.begun - self.queue)
        while self.waiting and self.queue:
            worker, since = self.waiting.popleft()
            noticed = max(self.now, since + math.ceil((self.now - since) / POLL_S) * POLL_S)
            self.queue, self.begun = self.queue - 1, self.begun + 1
            self.lost["proposals"] += noticed - since
            self.at(noticed, lambda worker=worker: self.begin(worker))  # type: ignore[misc]

    def planned(self, worker: int) -> None:
        self.planner = None
        self.take(worker) if self.queue else self.ready(worker)

    def take(self, worker: int) -> None:
        self.queue, self.begun = self.queue - 1, self.begun + 1
        self.begin(worker)

    def begin(self, worker: int) -> None:
        """The database, then an evaluation: work, and the clock of the machine."""
        self.running += 1
        own, there = (self.costs.at(what, self.running) for what in (self.costs.worker, self.costs.server))
        free = heapq.heappop(self.server)
        end = max(self.now, free) + there
        heapq.heappush(self.server, end)
        self.busy["database"] += there
        self.lost["database"] += end - self.now + own
        work, timing = self.evaluations[self.rng.integers(len(self.evaluations))]
        self.busy["evaluating"] += work + timing
        self.at(end + own + work, lambda: self.time(worker, timing))

    def time(self, worker: int, timing: float) -> None:
        place = worker // self.machine
        start = max(self.now, self.clocks[place])
        self.clocks[place] = start + timing
        self.busy["clock"] += timing
        self.lost["clock"] += start - self.now
        self.at(start + timing, lambda: self.end(worker))

    def end(self, worker: int) -> None:
        self.running, self.done = self.running - 1, self.done + 1
        self.ready(worker)


def simulated(
    table: Table, stretch: float, costs: Costs, evaluations: Sequence[tuple[float, float]], options: Any
) -> None:
    """Rows of the table for evaluations so much longer."""
    longer = [(stretch * work, stretch * timing) for work, timing in evaluations]
    mean = float(np.mean([sum(each) for each in longer]))
    for machine in options.machine:
        for workers in options.workers:
            for one in (False, True) if workers > 1 else (False,):
                run = Simulation(workers, machine, options.cores, costs, longer, one)
                seconds = run()
                whole = workers * seconds
                parts = [f"{100 * run.lost[name] / whole:.0f}" for name in ("clock", "database", "proposals", "end")]
                rate = run.done / seconds
                full = max(
                    run.busy["clock"] / len(run.clocks), run.busy["database"] / options.cores, run.busy["planning"]
                )
                names = {"clock": run.busy["clock"] / len(run.clocks), "database": run.busy["database"] / options.cores}
                names["proposer"] = run.busy["planning"] if one else 0.0
                name = max(names, key=lambda each: names[each])
                busiest = f"{name} {100 * min(1, names[name] / seconds):.0f}" if full else "-"
                efficiency = rate * mean / workers
                how = "one" if one else "each"
                table.row(
                    f"{mean:.2g} s",
                    str(machine),
                    str(workers),
                    how,
                    f"{3600 * rate:,.0f}",
                    f"{efficiency:.2f}",
                    *parts,
                    busiest,
                )


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--run", type=Path, required=True, help="folder of a finished search, whose evaluations are drawn"
    )
    parser.add_argument("--storage", help="as for --storage of wb search (default: a file of SQLite)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 16, 32, 64, 128, 256, 512, 1000])
    parser.add_argument(
        "--machine", type=int, nargs="+", default=[1, 8], help="workers on a machine, which has one clock"
    )
    parser.add_argument("--stretch", type=float, nargs="+", default=[1, 100], help="times that evaluations take longer")
    parser.add_argument("--cores", type=int, default=8, help="of the database's server")
    parser.add_argument("--genes", type=int, default=39)
    parser.add_argument(
        "--open", type=int, nargs="+", default=[0, 64, 256, 1000], help="candidates under way, as measured"
    )
    parser.add_argument(
        "--archive", type=int, nargs="+", default=[100, 400, 1600], help="evaluations planned on, as measured"
    )
    return parser


def main() -> None:
    options, out = begin(arguments())
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    evaluations = evaluations_of(options.run)
    with tempfile.TemporaryDirectory() as place:
        costs = measured(options, options.storage or file_url(Path(place) / "study.db"), out)
    for stretch in options.stretch:
        mean = stretch * float(np.mean([sum(each) for each in evaluations]))
        share = float(np.sum([timing for _, timing in evaluations]) / np.sum(evaluations))
        table = Table(
            f"evaluations of {mean:.2g} s, of which {100 * share:.0f} % are timing (from a run of {len(evaluations)})",
            ("evaluation", "on a machine", "workers", "proposes", "an hour", "efficiency", "lost: clock %", "database %",
             "proposals %", "end %", "busiest, %"),
            left=("proposes", "busiest, %"),
        )  # fmt: skip
        simulated(table, stretch, costs, evaluations, options)
        out.table(table)


if __name__ == "__main__":
    main()
