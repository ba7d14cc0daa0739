"""Feeds thousands of damaged and hostile files to every reader; each has to end in a result or in one paragraph.

python benchmarks/mutations.py [--count 3000] [--seed 2] [--subjects pt,onnx,…] [--markdown]

The mutations are those of the suite (`tests/fuzz`), with other seeds and more of them. Every reader works in a process of its
own, so that a crash of the interpreter is noticed and counted; `slow` counts files that took longer than half the suite's limit.
"""

from __future__ import annotations

import argparse
import logging
import runpy
import shutil
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import track
from tables import Table, begin, parser_of

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.fuzz.mutate import LIMIT, outcome
from tests.fuzz.mutate_onnx import mutated, plain
from tests.fuzz.mutate_runs import mutate as damage_run
from tests.fuzz.subjects import SUBJECTS, Mutants, Subject

TESTS = Path(__file__).parent.parent / "tests"

Line = tuple[str, str, float]  # what was done to the file, how it ended, seconds


def _onnx(path: Path) -> object:
    from wb.export.foreign.opening import open_graph
    from wb.export.foreign.trial import try_out
    from wb.hardware.device import Device

    open_graph(path)
    return try_out(path, Device(), limit_s=20.0)


def _onnx_file(folder: Path) -> Path:
    path = folder / "a.onnx"
    path.write_bytes(plain().SerializeToString())
    return path


def _onnx_mutants(_: bytes, random: Random, count: int) -> Mutants:
    seeds = random.sample(range(10**9), count)
    yield from ((f"seed {seed}", mutated(seed)) for seed in seeds)


def _seeds(_: bytes, random: Random, count: int) -> Mutants:
    """Seed files for a reader of folders: a file's text is the seed by which the folder is damaged."""
    yield from ((f"seed {seed}", str(seed).encode()) for seed in random.sample(range(1, 10**9), count))


def _run_folder(folder: Path) -> Path:
    runpy.run_path(str(TESTS / "search" / "conftest.py"))["fabricate_run"](
        folder / "made", objectives="acc,params", budget=("params=50k",), trials=12
    )
    (folder / "seed").write_text("")
    return folder / "seed"


def _run(path: Path) -> object:
    from wb.search.page.report import write_report
    from wb.search.run import Run

    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = shutil.copytree(path.parent / "made", Path(folder) / "run")
        if path.read_text():
            damage_run(copy, int(path.read_text()))
        return write_report(Run(copy), copy / "r.html")


ALL: dict[str, Subject] = {
    **SUBJECTS,
    "onnx": Subject(_onnx_file, _onnx_mutants, _onnx),
    "run": Subject(_run_folder, _seeds, _run),
}


def one(name: str, place: str, what: str, content: bytes) -> Line:
    """Reads one file, in the worker."""
    logging.getLogger("wb").setLevel(logging.CRITICAL)
    path = Path(place)
    path.write_bytes(content)
    start = time.monotonic()
    try:
        end = outcome(lambda: ALL[name].read(path)).partition(":")[0]
    except BaseException as error:  # whatever a user would have seen as a mistake of the program
        end = f"FAILED {type(error).__name__}: {str(error)[:200]}"
    return what, end, time.monotonic() - start


def run(name: str, count: int, seed: int) -> list[Line]:
    """Reads all files of one reader; after a crash a new worker continues."""
    found: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        path = ALL[name].make(Path(folder))
        files = list(ALL[name].mutants(path.read_bytes(), Random(f"{name} {seed}"), count))
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        for what, content in track(files, name, console=Console(stderr=True), transient=True):
            try:
                found.append(pool.submit(one, name, str(path), what, content).result(3 * LIMIT))
            except (BrokenProcessPool, TimeoutError) as error:
                found.append((what, f"CRASHED {type(error).__name__}", 0.0))
                pool.shutdown(wait=False, cancel_futures=True)
                pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.shutdown()
    return found


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--count", type=int, default=3000, help="files in all")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--subjects", default=",".join(ALL), help=f"some of {', '.join(ALL)}")
    return parser


def main() -> None:
    options, out = begin(arguments())
    names = options.subjects.split(",")
    share = -(-options.count // len(names))
    columns = ("reader", "files", "read", "refused", "failed", "slow", "slowest, s")
    table = Table(f"mutated files, seed {options.seed}", columns)
    wrong: list[str] = []
    total: Counter[str] = Counter()
    for name in names:
        lines = run(name, share, options.seed)
        ends = Counter(end if end in ("read", "refused") else "failed" for _, end, _ in lines)
        wrong += [f"{name}, {what}: {end}" for what, end, _ in lines if end not in ("read", "refused")]
        slow = sum(seconds > LIMIT / 2 for _, _, seconds in lines)
        slowest = max(seconds for _, _, seconds in lines)
        total += ends
        counts = [str(ends[end]) for end in ("read", "refused", "failed")]
        table.row(name, str(len(lines)), *counts, str(slow), f"{slowest:.1f}")
    table.row("all", str(total.total()), *(str(total[end]) for end in ("read", "refused", "failed")), "", "")
    out.table(table)
    for text in wrong:
        out.say(text)


if __name__ == "__main__":
    main()
