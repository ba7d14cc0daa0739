"""The part of `generate.py` that runs `wb search` with true evaluations, by `guided` and by `generate`."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from tables import Output, Table, told

from wb.core.measures.requirements import meets, parse_requirements
from wb.search.page.contents import read_trials
from wb.search.run import Run
from wb.search.study.trials import readings_of


def searches(options: argparse.Namespace, out: Output) -> None:
    """Prints what `wb search` found with true evaluations, sampler by sampler."""
    asked = parse_requirements([options.require])
    table = Table(
        f"wb search on {options.data}, {options.require}, {options.trials} evaluations, {options.seeds} seeds",
        ("sampler, seed", "first at", "evaluations that meet", "networks left that meet", "search, s"),
    )
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            for sampler in ("guided", "generate"):
                folder = Path(scratch) / f"{sampler}-{seed}"
                command = f"--data {shlex.quote(options.data)} --require {shlex.quote(options.require)} --seed {seed}"
                command += f" --sampler {sampler} --trials {options.trials} --out {folder} --json {options.options}"
                done = subprocess.run(
                    [sys.executable, "-m", "wb.cli.main", "search", *shlex.split(command)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                if done.returncode not in (0, 3):
                    raise SystemExit(f"wb search {command} ended with exit code {done.returncode}")
                record = Run(folder).read()
                met = [meets(asked, readings_of(trial)) for trial in read_trials(Run(folder), record)]
                left = len(json.loads(done.stdout)["judgement"]["meeting"])
                first = str(1 + met.index(True)) if any(met) else "–"
                table.row(f"{sampler}, {seed}", first, str(sum(met)), str(left), f"{record.seconds['search']:.0f}")
                told(sampler, seed, "done")
    out.table(table)
