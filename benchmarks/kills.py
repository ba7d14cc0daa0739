"""Kills every job at random moments, continues it, and compares its files with an uninterrupted run's.

python benchmarks/kills.py [--kills 100] [--minutes M] [--seed 0] [--jobs train,prune,…] [--markdown]

Each job is started, killed with SIGKILL after a random part of its usual time, and started again, several times, and then
runs to its end. Weights have to be equal to the bit, the files have to be the same, and nothing may stay in the temporary
folder. No job here decides by a clock (budgets are in MACs or bytes), so that any difference is a bug.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tables import Table, begin, parser_of

from wb.models.model import load

ROUND = 4  # kills in a row, before the job is let through


@dataclass(frozen=True)
class Job:
    """A job: `begin` starts it and `go_on` continues it in a given folder; `leaves` lists the files that have to be equal."""

    begin: Callable[[Path], list[str]]
    go_on: Callable[[Path], list[str]]
    leaves: Callable[[Path], Mapping[str, str]]


@dataclass
class Tally:
    """The results of one job's kills."""

    seconds: float = 0.0
    usual: float = 0.0  # seconds, as they are by now
    kills: int = 0
    late: int = 0  # it had ended already
    resumed: int = 0
    same: int = 0
    wrong: list[str] = field(default_factory=list)


def weights(folder: Path) -> dict[str, str]:
    """Every file with its content that must be equal: the weights of models, and for other files that they exist."""
    models = {".safetensors", ".pt"}
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("in-"))
    return {str(p.relative_to(folder)): load(p).fingerprint() if p.suffix in models else "" for p in files}


def front(folder: Path) -> dict[str, str]:
    """A search's candidates in order, and the weights of its front."""
    from wb.search.page.contents import read_trials
    from wb.search.run import Run

    run = Run(folder / "run")
    found = {"candidates": json.dumps([trial.params for trial in read_trials(run, run.read())])}
    points = [(p.id, load(run.folder / p.model).fingerprint()) for p in run.read_front()]
    return found | {"front": json.dumps(points), "supernet": hashlib.sha256(run.supernet_path.read_bytes()).hexdigest()}


def command(*words: object) -> Callable[[Path], list[str]]:
    """A command that is the same each time; `{}` stands for the folder."""
    return lambda folder: [str(word).replace("{}", str(folder)) for word in words]


def again(words: Callable[[Path], list[str]]) -> Job:
    """A job that the same command continues."""
    return Job(words, words, weights)


def search(folder: Path) -> list[str]:
    """Continues the run, or begins it if it was killed before there was one."""
    started = (folder / "run" / "run.json").exists()
    return ["search", "--resume", str(folder / "run")] if started else SEARCH(folder)


DATA = ("--data", "digits", "--limit", 300)
SEARCH = command(
    *("search", "--objectives", "acc,macs", "--preset", "tiny", "--epochs", 3, "--trials", 16, "--finetune", 2),
    *("--rungs", "6x1,4x2", "--finalists", 3, "--limit", 300, "--out", "{}/run"),
)
TRAIN = ("train", "--preset", "tiny", *DATA, "--epochs")
PRUNE = ("{}/in-a.pt", "-o", "{}/out.pt", *DATA, "--finetune", 4, "--budget")
JOBS = {
    "train": again(command(*TRAIN, 16, "-o", "{}/out.safetensors")),
    "prune": again(command("prune", "nvit", *PRUNE, "macs=0.5x", "--rounds", 6, "--recovery", 4)),
    "prune depth": again(command("prune", "depth", *PRUNE, "macs=0.6x")),
    "fuse": again(command("fuse", "{}/in-a.pt", "{}/in-b.pt", "-o", "{}/out.pt", *DATA, "--finetune", 4)),
    "quantize": again(command("quantize", "{}/in-a.pt", "-o", "{}/out.onnx", "--budget", "size=0.5x", *DATA[:2])),
    "binarize": again(
        command("binarize", "{}/in-a.pt", "-o", "{}/out.pt", "--attention", "hash", "--bits", 8, *DATA, "--finetune", 4)
    ),
    "search": Job(SEARCH, search, front),
}


def run(words: list[str], temporary: Path, after: float | None = None) -> tuple[int, str]:
    """Exit code and messages of `wb words`, killed after so many seconds; the code of a killed process is -9."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "wb.cli.main", *words],
            stdout=subprocess.DEVNULL,
            stderr=messages,
            env=environment,
            start_new_session=True,
        )
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        messages.seek(0)
        return process.returncode, messages.read().decode("utf-8", "replace")


def tell(line: str) -> None:
    """How far it is, on stderr; it goes on for a long time."""
    print(f"{datetime.now():%H:%M:%S} {line}", file=sys.stderr, flush=True)


def models(folder: Path) -> None:
    """The two small models that the jobs begin with."""
    for name, seed in (("a", 0), ("b", 1)):
        code, text = run([*map(str, TRAIN), "4", "--seed", str(seed), "-o", str(folder / f"in-{name}.pt")], folder)
        if code:
            raise SystemExit(text)


def attempt(job: Job, folder: Path, whole: Mapping[str, str], rng: random.Random, tally: Tally, most: int) -> None:
    """One job, killed at most `most` times, then run to its end and compared."""
    temporary = folder / "tmp"
    temporary.mkdir()
    place = folder / "job"
    words = job.begin(place)
    for number in range(most):
        start = time.monotonic()
        code, _ = run(words, temporary, rng.uniform(0.3, 1.0) * tally.usual)
        words = job.go_on(place)
        if code != -signal.SIGKILL:
            tally.late += 1
            if number == 0:  # the machine is less busy than it was: later kills would all be too late
                tally.usual = min(tally.usual, time.monotonic() - start)
            break
        tally.kills += 1
    if any(path.suffix in (".json",) and path.name.startswith("out") for path in place.glob("*")):
        code, text = 0, ""  # killed in the last moments of its last line
    else:
        code, text = run(words, temporary)
    finished = code == 0 or "exists already" in text
    tally.resumed += finished
    left = [path.name for path in temporary.iterdir() if path.name.startswith("wb-")]
    found = job.leaves(place) if finished else {}
    tally.same += found == whole
    if found != whole:
        differ = sorted(name for name in found.keys() | whole.keys() if found.get(name) != whole.get(name))
        tally.wrong.append(text.strip()[-300:] if not finished else f"different: {', '.join(differ)}")
    if left:
        tally.wrong.append(f"left in the temporary folder: {', '.join(left)}")


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin none of the rounds of kills after this time"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"some of {', '.join(JOBS)}")
    return parser


def main() -> None:
    options, out = begin(arguments())
    names, end = options.jobs.split(","), time.monotonic() + 60 * options.minutes
    rng = random.Random(options.seed)
    tallies = {name: Tally() for name in names}
    rounds: dict[str, int] = dict.fromkeys(names, 0)
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        home = Path(scratch)
        models(home)

        def fresh(name: str) -> Path:
            place = home / f"{name.replace(' ', '-')}-{rounds[name]}"
            (place / "job").mkdir(parents=True)
            for model in home.glob("in-*.pt"):
                (place / "job" / model.name).write_bytes(model.read_bytes())
            rounds[name] += 1
            return place

        wholes = {}
        for name in names:
            place = fresh(name)
            start = time.monotonic()
            code, text = run(JOBS[name].begin(place / "job"), place)
            tallies[name].seconds = tallies[name].usual = time.monotonic() - start
            if code:
                raise SystemExit(f"{name}: {text}")
            wholes[name] = JOBS[name].leaves(place / "job")
            tell(f"{name}: {tallies[name].seconds:.1f} s whole")
        share = -(-options.kills // len(names))
        while left := [name for name in names if tallies[name].kills < share and time.monotonic() < end]:
            for name in left:
                if time.monotonic() >= end:
                    break
                tally = tallies[name]
                attempt(JOBS[name], fresh(name), wholes[name], rng, tally, min(ROUND, share - tally.kills))
                done = f"{name}: {tally.kills} of {share} kills, the same {tally.same} of {rounds[name] - 1} times"
                tell("; ".join([done, *tally.wrong]))
    title = f"{sum(t.kills for t in tallies.values())} kills, seed {options.seed}"
    columns = ("job", "seconds, whole", "kills", "ended before", "continued", "the same", "what was wrong")
    table = Table(title, columns, left=("what was wrong",))
    for name, tally in tallies.items():
        of = rounds[name] - 1
        cells = (
            f"{tally.seconds:.1f}",
            f"{tally.kills}",
            f"{tally.late}",
            f"{tally.resumed} of {of}",
            f"{tally.same} of {of}",
        )
        table.row(name, *cells, "; ".join(dict.fromkeys(tally.wrong)))
    out.table(table)


if __name__ == "__main__":
    main()
