"""The inner search: NSGA-II on predicted objectives, over rows of option indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.optimize import minimize

from wb.predictors.ensemble import Ensemble
from wb.predictors.features import Encoder, Floats, Indices

POPULATION = 100
GENERATIONS = 25


@dataclass(frozen=True)
class Models:
    """One predictor per objective (minimised) and per constraint (at most 0 is feasible)."""

    objectives: Sequence[Ensemble]
    constraints: Sequence[Ensemble] = ()

    def outcome(self, encoder: Encoder, rows: Indices) -> Outcome:
        """What is predicted of `rows`."""
        features = encoder.features(rows)
        values, bounds = (
            np.reshape([model.predict(features)[0] for model in models], (len(models), len(rows))).T
            for models in (self.objectives, self.constraints)
        )
        return Outcome(rows, values, np.maximum(bounds, 0).sum(axis=1))


@dataclass(frozen=True)
class Outcome:
    """Distinct canonical rows (rows, genes), their objectives (minimised), and total constraint violation (0 is feasible)."""

    rows: Indices
    values: Floats
    violation: Floats

    def __getitem__(self, which: Indices) -> Outcome:
        return Outcome(self.rows[which], self.values[which], self.violation[which])

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.values, other.values]),
            np.concatenate([self.violation, other.violation]),
        )


def search(encoder: Encoder, models: Models, start: Indices, rng: np.random.Generator) -> Outcome:
    """Runs NSGA-II from the rows `start` and returns every row that it evaluated with the predictors.

    Mutants of `start` fill up the first population.

    Source: Deb et al., A fast and elitist multiobjective genetic algorithm, IEEE TEC 6 (2002), in pymoo.
    Differs: uniform crossover and mutation of categorical genes on canonical rows; the result is every evaluated row, not
    only the last population.
    """
    start = start[:POPULATION]
    mutants = mutate(start[rng.integers(0, len(start), POPULATION - len(start))], encoder.sizes, rng)
    algorithm = NSGA2(
        POPULATION,
        sampling=encoder.canonical(np.concatenate([start, mutants])),
        crossover=_Uniform(),
        mutation=_Options(),
        repair=_Canonical(),
    )
    problem = _Predicted(encoder, models)
    minimize(problem, algorithm, ("n_gen", GENERATIONS), seed=int(rng.integers(2**31)))
    seen = Outcome(*(np.concatenate(part) for part in zip(*problem.seen, strict=True)))
    _, first = np.unique(seen.rows, axis=0, return_index=True)
    return seen[first]


def mutate(rows: Indices, sizes: Indices, rng: np.random.Generator) -> Indices:
    """Mutated rows: each gene changes with probability 1 / genes, and one random gene always.

    With equal probability it moves to a neighbouring option or to a random one (which may be the old one).
    """
    count, genes = rows.shape
    change = rng.random((count, genes)) < 1 / genes
    change[np.arange(count), rng.integers(0, genes, count)] = True
    beside = np.clip(rows + rng.choice([-1, 1], (count, genes)), 0, sizes - 1)
    anything = rng.integers(0, sizes, (count, genes))
    moved = np.where(rng.random((count, genes)) < 0.5, beside, anything)
    return np.where(change, moved, rows).astype(np.int64)


class _Predicted(Problem):  # type: ignore[misc]
    """The predictors as a pymoo problem; `seen` collects every evaluated population with its objectives and violation."""

    def __init__(self, encoder: Encoder, models: Models) -> None:
        super().__init__(
            n_var=len(encoder.sizes),
            n_obj=len(models.objectives),
            n_ieq_constr=len(models.constraints),
            xl=0,
            xu=encoder.sizes - 1,
            vtype=int,
        )
        self.encoder, self.models = encoder, models
        self.seen: list[tuple[Indices, Floats, Floats]] = []

    def _evaluate(self, x: Indices, out: dict[str, Any], *_: object, **__: object) -> None:
        features = self.encoder.features(x)
        out["F"] = np.column_stack([model.predict(features)[0] for model in self.models.objectives])
        violation = np.zeros(len(x))
        if self.models.constraints:
            out["G"] = np.column_stack([model.predict(features)[0] for model in self.models.constraints])
            violation = np.maximum(out["G"], 0).sum(axis=1)
        self.seen.append((x.astype(np.int64), out["F"], violation))


class _Canonical(Repair):  # type: ignore[misc]
    """Makes rows canonical, so that pymoo's removal of duplicates recognises equal networks."""

    def _do(self, problem: _Predicted, x: Indices, **_: object) -> Indices:
        return problem.encoder.canonical(x.astype(np.int64))


class _Uniform(Crossover):  # type: ignore[misc]
    """Uniform crossover: two parents swap each gene with probability one half."""

    def __init__(self) -> None:
        super().__init__(n_parents=2, n_offsprings=2)

    def _do(self, _: _Predicted, x: Indices, *, random_state: np.random.Generator, **__: object) -> Indices:
        return np.where(random_state.random(x.shape[1:]) < 0.5, x[::-1], x)


class _Options(Mutation):  # type: ignore[misc]
    """`mutate` as a pymoo operator."""

    def _do(self, problem: _Predicted, x: Indices, *, random_state: np.random.Generator, **_: object) -> Indices:
        return mutate(x.astype(np.int64), problem.encoder.sizes, random_state)
