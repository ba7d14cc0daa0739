"""How fast searches approach the front of two tabular problems, in true and distinct evaluations.

    python benchmarks/hypervolume.py --problems FOLDER [--seeds 10] [--evaluations 200] [--jobs 1] [--only macro]

FOLDER holds `problems.py` and its data. A figure is a gap: the hypervolume of the known front less the one reached, so
lower is better. Every method gets as many *distinct* evaluations; a repeat is answered from a cache and not counted. The
CPU seconds are those of the method without the evaluations. Wilcoxon's signed-rank test compares every method with
`guided`, seed by seed (two-sided). Rows marked "quoted" are the figures of others, mean of 3 seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # else small matrices are slower, and CPU seconds mean nothing

import numpy as np
import optuna
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.optimize import minimize
from scipy.stats import wilcoxon
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVR
from tables import Table, begin, parser_of

from wb.core.space import Choices, Option
from wb.search.sampler.guided import GuidedSampler
from wb.search.sampler.hypervolume import hypervolume_curve

PROBLEMS = {"macro": "Macro", "hat-xeon": "HatXeon"}
QUOTED = {
    "macro": {"DyNAS-T LINAS (quoted)": {100: 25, 200: 12}, "earlier sketch (quoted)": {100: 28, 200: 18}},
    "hat-xeon": {
        "DyNAS-T LINAS (quoted)": {100: 238, 200: 166},
        "earlier sketch, masked (quoted)": {100: 149, 200: 87},
    },
}
Row = tuple[int, ...]
Method = Callable[["Evaluations", int], None]


class EnoughEvaluations(Exception):
    """Ends a method that has had its evaluations."""


class TabularSpace:
    """A problem as a space of anonymous genes x0, x1, … with options 0, 1, …"""

    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.genes: dict[str, tuple[Option, ...]] = {f"x{i}": tuple(range(n)) for i, n in enumerate(problem.choices)}

    def active(self, choices: Choices) -> frozenset[str]:
        mask = self.problem.active([choices[name] for name in self.genes])
        return frozenset(name for name, matters in zip(self.genes, mask, strict=True) if matters)


class Evaluations:
    """Counts distinct evaluations and the CPU seconds that they take; repeats come from a cache."""

    def __init__(self, problem: Any, budget: int) -> None:
        self.problem, self.budget = problem, budget
        self.cache: dict[Row, tuple[float, float]] = {}
        self.seconds = 0.0

    def __call__(self, x: Sequence[int]) -> tuple[float, float]:
        start = time.process_time()
        active = self.problem.active(x)
        row = tuple(int(v) if on else 0 for v, on in zip(x, active, strict=True))
        if row not in self.cache:
            if len(self.cache) == self.budget:
                raise EnoughEvaluations
            self.cache[row] = self.problem(row)
        self.seconds += time.process_time() - start
        return self.cache[row]


def through_optuna(make: Callable[[TabularSpace, int], optuna.samplers.BaseSampler]) -> Method:
    def run(evaluations: Evaluations, seed: int) -> None:
        space = TabularSpace(evaluations.problem)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=make(space, seed))
        while True:
            trial = study.ask()
            row = [trial.suggest_categorical(name, options) for name, options in space.genes.items()]
            study.tell(trial, evaluations(row))

    return run


class Tabular(Problem):  # type: ignore[misc]
    """A function of rows of option indices for pymoo."""

    def __init__(self, sizes: Sequence[int], function: Callable[[Any], Any]) -> None:
        super().__init__(n_var=len(sizes), n_obj=2, xl=0, xu=np.array(sizes) - 1, vtype=int)
        self.function = function

    def _evaluate(self, x: Any, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = self.function(x)


def integer_nsga2(sampling: Any = None) -> NSGA2:
    return NSGA2(
        50,
        sampling=IntegerRandomSampling() if sampling is None else sampling,
        crossover=SBX(vtype=float, repair=RoundingRepair()),
        mutation=PM(vtype=float, repair=RoundingRepair()),
    )


def pymoo_nsga2(evaluations: Evaluations, seed: int) -> None:
    problem = Tabular(evaluations.problem.choices, lambda x: [evaluations(row) for row in x])
    minimize(problem, integer_nsga2(), ("n_gen", 10**6), seed=seed)


def linas(evaluations: Evaluations, seed: int) -> None:
    """DyNAS-T's search, reimplemented: ridge or SVR by grid search, and the last inner population is evaluated next.

    Differs: active-aware encoding (for fairness), grids of 10 instead of 100 values, nothing random once it stands still.
    """
    sizes = evaluations.problem.choices
    rng = np.random.default_rng(seed)
    rows = [tuple(rng.integers(0, sizes).tolist()) for _ in range(50)]
    archive = {row: evaluations(row) for row in rows}
    for generation in range(10**6):
        features = encode(evaluations.problem, list(archive))
        values = np.array(list(archive.values()))
        models = [lightly_trained(features, column) for column in values.T]
        inner = Tabular(
            sizes, lambda x, models=models: np.column_stack([m.predict(encode(evaluations.problem, x)) for m in models])
        )
        # 5,000 predictor calls, a new seed each time
        found = minimize(inner, integer_nsga2(), ("n_gen", 100), seed=1000 * seed + generation).pop.get("X")
        before = len(archive)
        for row in found:
            archive[tuple(int(v) for v in row)] = evaluations(row)
        while len(archive) == before:  # DyNAS-T would evaluate the same again
            row = tuple(rng.integers(0, sizes).tolist())
            archive[row] = evaluations(row)


def encode(problem: Any, rows: Any) -> Any:
    """One-hot columns, zero where inactive."""
    array = np.asarray(rows, dtype=np.int64)
    active = np.array([problem.active(row) for row in array])
    one_hot = [(array[:, [i]] == np.arange(n)) & active[:, [i]] for i, n in enumerate(problem.choices)]
    return np.concatenate(one_hot, axis=1).astype(np.float64)


def lightly_trained(features: Any, values: Any) -> Any:
    searches = [
        GridSearchCV(Ridge(), {"alpha": np.linspace(0.1, 10, 10)}, scoring="neg_mean_absolute_percentage_error"),
        GridSearchCV(SVR(), {"C": np.linspace(1, 100, 10)}, scoring="neg_mean_absolute_percentage_error"),
    ]
    return max((search.fit(features, values) for search in searches), key=lambda search: float(search.best_score_))


METHODS: dict[str, Method] = {
    "guided": through_optuna(lambda space, seed: GuidedSampler(space, seed=seed)),
    "random": through_optuna(lambda _, seed: optuna.samplers.RandomSampler(seed=seed)),
    "optuna NSGA-II": through_optuna(lambda _, seed: optuna.samplers.NSGAIISampler(seed=seed)),
    "optuna TPE": through_optuna(lambda _, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True)),
    "pymoo NSGA-II": pymoo_nsga2,
    "LINAS, active-aware": linas,
}


@cache
def load_problem(folder: Path, name: str) -> Any:
    spec = importlib.util.spec_from_file_location("problems", folder / "problems.py")
    if spec is None or spec.loader is None or not (folder / "problems.py").is_file():
        raise SystemExit(f"{folder} has no problems.py; give the folder that holds it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    problem = getattr(module, PROBLEMS[name])()
    problem([0] * len(problem.choices))  # loads its data, which is nobody's time
    return problem


def measure(folder: Path, name: str, method: str, seed: int, evaluations: int) -> tuple[list[float], float]:
    """The gap after each distinct evaluation, and the CPU seconds of the method alone."""
    warnings.simplefilter("ignore")  # "experimental" features, solvers that stop early: not the subject
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = load_problem(folder, name)
    counted = Evaluations(problem, evaluations)
    start = time.process_time()
    with suppress(EnoughEvaluations):
        METHODS[method](counted, seed)
    seconds = time.process_time() - start - counted.seconds
    curve = hypervolume_curve(list(counted.cache.values()), problem.reference)
    return (problem.best - curve).tolist(), seconds


def compare(options: argparse.Namespace, name: str) -> Table:
    checkpoints = [n for n in (50, 100, 150, 200) if n <= options.evaluations]
    title = f"{name}: gap after distinct evaluations, mean ± sd of {options.seeds} seeds (p against guided)"
    table = Table(title, ("method", *map(str, checkpoints), "CPU s"))
    guided: Any = None
    for method in METHODS:
        results = list(runs(options, name, method))
        gaps = np.array([[curve[n - 1] for n in checkpoints] for curve, _ in results])
        guided = gaps if method == "guided" else guided
        cells = [
            f"{column.mean():.1f} ± {column.std():.1f}{against(column, base)}"
            for column, base in zip(gaps.T, guided.T, strict=True)
        ]
        table.row(method, *cells, f"{np.mean([seconds for _, seconds in results]):.1f}")
    for label, known in QUOTED[name].items():
        table.row(label, *[str(known.get(n, "–")) for n in checkpoints], "–")
    return table


def runs(options: argparse.Namespace, name: str, method: str) -> Iterator[tuple[list[float], float]]:
    one = [(options.problems, name, method, seed, options.evaluations) for seed in range(options.seeds)]
    if options.jobs == 1:
        yield from (measure(*task) for task in one)
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            yield from pool.map(measure, *zip(*one, strict=True))


def against(column: Any, guided: Any) -> str:
    if column is guided or np.array_equal(column, guided):
        return ""
    return f" (p={wilcoxon(column, guided).pvalue:.3f})"


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--problems", type=Path, required=True, help="folder with problems.py and its data")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", choices=sorted(PROBLEMS), help="one problem only")
    return parser


def main() -> None:
    options, out = begin(arguments())
    for name in [options.only] if options.only else PROBLEMS:
        out.table(compare(options, name))


if __name__ == "__main__":
    main()
