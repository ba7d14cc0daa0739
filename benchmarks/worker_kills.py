"""Kills the processes of a search at random moments: its own, its helpers, and those that joined without the run folder.

    python benchmarks/worker_kills.py --storage URL [--kills 50] [--restart "COMMAND that restarts the database"] [--seed 0]

A search of two workers and two joined processes runs all the time; one of them is killed with SIGKILL at a random moment after
each further candidate, and whatever ended is started again by the same command. Every tenth time the database is restarted
instead, where a command for that is given. Then everything runs to its end. Nothing may be lost, repeated, left over, or
evaluated beyond the budget.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from optuna.trial import TrialState
from tables import Table, begin, parser_of

from wb.core.errors import WbError
from wb.search.run import Run
from wb.search.study.study import load_study
from wb.search.study.trials import evaluated

SEARCH = ["--epochs", "1", "--finetune", "0", "--limit", "300", "--rungs", "none", "--finalists", "2"]
PAUSE_S = 3.0  # before a kill, at most, once a candidate was evaluated after the last one
PATIENCE_S = 90.0  # for that candidate
MATCH = re.compile(r"--join (wb-\w+)")


class Crew:
    """The processes of one search, each started again when it has ended before its work was done."""

    def __init__(self, folder: Path, storage: str, trials: int) -> None:
        self.folder, self.storage, self.trials = folder, storage, trials
        self.run, self.log = Run(folder / "run"), folder / "said.txt"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def keep(self) -> None:
        """Starts what does not run."""
        for name, command in (("search", self.search), ("joined 1", self.join), ("joined 2", self.join)):
            process = self.processes.get(name)
            words = command() if process is None or process.poll() is not None else None
            if words:
                self.start(name, words)

    def start(self, name: str, words: list[str]) -> None:
        """A process in a group of its own, whose helpers can be found by it; each joined one has a cache of its own."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.folder / name.replace(" ", "-"))}
        with self.log.open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "wb.cli.main", *words],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def search(self) -> list[str] | None:
        """The command that begins or continues the run; None once it has its front."""
        if self.run.report_path.exists():
            return None
        if self.run.record_path.exists():
            return ["search", "--resume", str(self.run.folder), "--storage", self.storage, "--workers", "2"]
        counted = ["--objectives", "acc,params", "--trials", str(self.trials), "--workers", "2"]
        return ["search", *SEARCH, *counted, "--storage", self.storage, "-o", str(self.run.folder)]

    def join(self) -> list[str] | None:
        """The command that joins; None before the run says how, and once all candidates are evaluated."""
        found = MATCH.search(self.log.read_text(errors="replace")) if self.log.exists() else None
        if found is None or self.run.front_path.exists():
            return None
        return ["search", "--join", found[1], "--storage", self.storage]

    def kill(self, rng: random.Random) -> str | None:
        """Kills one of the processes, or one of their helpers; returns which."""
        alive = {name: process.pid for name, process in self.processes.items() if process.poll() is None}
        found = helpers(alive.get("search"))
        victims = alive | ({"helper": rng.choice(found)} if found else {})
        if not victims:
            return None
        name = rng.choice(sorted(victims))
        os.kill(victims[name], signal.SIGKILL)
        return name

    def done(self) -> int:
        """How many candidates are evaluated."""
        with suppress(WbError):  # there is no study yet, or the database is away
            return len(evaluated(load_study(self.storage, self.run.read().study)))
        return 0

    def progress(self) -> None:
        """Keeps all running until there is one more candidate, or the patience is over."""
        before, end = self.done(), time.monotonic() + PATIENCE_S
        while self.done() <= before and time.monotonic() < end and not self.run.front_path.exists():
            self.keep()
            time.sleep(0.5)


def helpers(pid: int | None) -> list[int]:
    """The children of a process that evaluate candidates."""
    if pid is None:
        return []
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]


def campaign(options: argparse.Namespace, folder: Path) -> tuple[Counter[str], Crew, float]:
    """Kills and lets run; returns what was killed how often, and the seconds that all took."""
    rng, crew, killed = random.Random(options.seed), Crew(folder, options.storage, options.trials), Counter[str]()
    start = time.monotonic()
    while sum(killed.values()) < options.kills and not crew.run.front_path.exists():
        crew.progress()
        time.sleep(rng.uniform(0, PAUSE_S))
        if options.restart and sum(killed.values()) % 10 == 9:
            subprocess.run(shlex.split(options.restart), check=True)
            killed["database"] += 1
            continue
        name = crew.kill(rng)
        killed.update([name] if name else [])
        print(f"{sum(killed.values())} kills", file=sys.stderr)
    wait(crew, lambda: crew.run.report_path.exists())
    wait(crew, lambda: all(process.poll() is not None for process in crew.processes.values()))
    return killed, crew, time.monotonic() - start


def wait(crew: Crew, until: Callable[[], bool], minutes: float = 20) -> None:
    """Keeps the search running until then."""
    end = time.monotonic() + 60 * minutes
    while not until():
        if time.monotonic() > end:
            raise SystemExit(f"the search did not end; see {crew.log}")
        crew.keep()
        time.sleep(0.5)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--storage", required=True, help="as for --storage of wb search")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--trials", type=int, default=400, help="enough to outlast the kills")
    parser.add_argument("--restart", help="a command that restarts the database")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    options, out = begin(arguments())
    with tempfile.TemporaryDirectory() as place:
        killed, crew, seconds = campaign(options, Path(place))
        record = crew.run.read()
        study = load_study(options.storage, record.study)
        done, states = evaluated(study), Counter(trial.state for trial in study.get_trials(deepcopy=False))
        keys = Counter(tuple(sorted((name, str(value)) for name, value in trial.params.items())) for trial in done)
        table = Table(f"{sum(killed.values())} kills in {seconds:.0f} s", ("what", "number"))
        for name, count in sorted(killed.items()):
            table.row(f"killed: {name}", str(count))
        table.row("candidates wanted", str(options.trials))
        table.row("evaluated", str(len(done)))
        table.row("evaluated twice", str(sum(count - 1 for count in keys.values())))
        for state in (TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL):
            table.row(f"left {state.name.lower()}", str(states[state]))
        table.row("workers that evaluated", str(len({trial.user_attrs["worker"] for trial in done})))
        out.table(table)


if __name__ == "__main__":
    main()
