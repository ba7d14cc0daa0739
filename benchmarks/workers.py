"""What many workers cost the guided sampler: hypervolume after equal evaluations, with so many candidates under way at any time.

Time is virtual: each evaluation takes a lognormal time (sigma 0.3), and a worker that is done gets its next candidate at once.
Tabular problems, so that evaluations themselves take none. "Unaware" is the sampler that does not know how many workers there
are and does not look at what they are evaluating. Time is in mean evaluations, where one worker takes as many as there are.

    python benchmarks/workers.py --problems FOLDER [--seeds 6] [--evaluations 200] [--workers 1 8 32 128] [--only macro]
"""

from __future__ import annotations

import argparse
import heapq
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hypervolume import PROBLEMS, TabularSpace, load_problem
from tables import Table, begin, parser_of

from wb.predictors.features import Indices
from wb.search.sampler.guided import GuidedSampler
from wb.search.sampler.hypervolume import hypervolume_curve

SIGMA = 0.3


class Unaware(GuidedSampler):
    """Does not look at what is being evaluated."""

    def _pending(self, trials: Any) -> Indices:
        return super()._pending([])


def measure(problem: Any, workers: int, seed: int, evaluations: int, *, aware: bool) -> tuple[float, float, float]:
    """The gap in hypervolume, the virtual time in mean evaluations, and the CPU seconds of the sampler."""
    space = TabularSpace(problem)
    sampler = GuidedSampler(space, seed=seed, workers=workers) if aware else Unaware(space, seed=seed)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
    rng, now, begun, own = np.random.default_rng([seed, workers]), 0.0, 0, 0.0
    running: list[tuple[float, int, optuna.Trial, tuple[int, ...]]] = []
    found = []
    while len(found) < evaluations:
        while len(running) < workers and begun < evaluations:
            start = time.process_time()
            trial = study.ask()
            row = tuple(trial.suggest_categorical(name, options) for name, options in space.genes.items())
            own += time.process_time() - start
            heapq.heappush(running, (now + rng.lognormal(-(SIGMA**2) / 2, SIGMA), begun, trial, row))
            begun += 1
        now, _, trial, row = heapq.heappop(running)
        found.append(problem(row))
        study.tell(trial, found[-1])
    gap = problem.best - hypervolume_curve(found, problem.reference)[-1]
    return float(gap), now, own


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--problems", type=Path, required=True, help="folder with problems.py and its data")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--only", choices=sorted(PROBLEMS), help="one problem only")
    return parser


def main() -> None:
    options, out = begin(arguments())
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for name in [options.only] if options.only else PROBLEMS:
        problem = load_problem(options.problems, name)
        of = f"of {problem.best:.0f}, mean ± s.e. of {options.seeds} seeds"
        title = f"{name}: gap after {options.evaluations} evaluations ({of})"
        table = Table(title, ("workers", "unaware", "aware", "time, evaluations", "CPU s"))
        for workers in options.workers:
            cells = []
            for aware in (False, True):
                runs = np.array(
                    [measure(problem, workers, seed, options.evaluations, aware=aware) for seed in range(options.seeds)]
                )
                gaps = runs[:, 0]
                cells.append(f"{gaps.mean():.1f} ± {gaps.std(ddof=1) / len(gaps) ** 0.5:.1f}")
            table.row(str(workers), *cells, f"{runs[:, 1].mean():.1f}", f"{runs[:, 2].mean():.1f}")
        out.table(table)


if __name__ == "__main__":
    main()
