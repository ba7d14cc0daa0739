"""What to evaluate next: first candidates, inner search over predictions, choice of a batch."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import moocore
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
POOL = 400


@dataclass(frozen=True)
class Archive:
    """True evaluations: canonical rows, minimised objectives, and the sum of violated constraints (0 is feasible)."""

    rows: Indices
    values: Floats
    violation: Floats


@dataclass(frozen=True)
class Models:
    """One predictor per objective (minimised) and per constraint (at most 0 is feasible)."""

    objectives: Sequence[Ensemble]
    constraints: Sequence[Ensemble] = ()


def initial_rows(encoder: Encoder, count: int, rng: np.random.Generator) -> Indices:
    """The all-first and all-last candidates, then rows whose options are drawn around evenly spread places.

    With many genes, independent draws all have about the same size; a place per candidate (0 small, 1 large) spreads
    them along the front, which is where a predictor is asked later. Every other candidate is drawn independently.
    """
    sizes = encoder.sizes
    corners = [np.zeros(len(sizes), dtype=np.int64), sizes - 1]
    levels = rng.permutation((np.arange(max(count, 1)) + rng.random(max(count, 1))) / max(count, 1))
    rows = []
    for i, level in enumerate(levels):
        place = rng.random(len(sizes))
        if i % 2:
            place = rng.beta(0.5 + 3 * level, 0.5 + 3 * (1 - level), len(sizes))
        rows.append(np.minimum((place * sizes).astype(np.int64), sizes - 1))
    return encoder.canonical(np.array([*corners, *rows])[:count])


class _Canonical(Repair):  # type: ignore[misc]
    def _do(self, problem: Any, X: Indices, **_: Any) -> Indices:  # noqa: N803
        return problem.encoder.canonical(X.astype(np.int64))  # type: ignore[no-any-return]


class _Uniform(Crossover):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(2, 2)

    def _do(self, _: Any, X: Indices, random_state: np.random.Generator, **__: Any) -> Indices:  # noqa: N803
        swap = random_state.random(X.shape[1:]) < 0.5
        return np.where(swap, X[::-1], X)


class _Options(Mutation):  # type: ignore[misc]
    """At least one gene changes: half the time to the option beside, else to any."""

    def _do(self, problem: Any, X: Indices, random_state: np.random.Generator, **_: Any) -> Indices:  # noqa: N803
        return mutate(X.astype(np.int64), problem.encoder.sizes, random_state)


def mutate(rows: Indices, sizes: Indices, rng: np.random.Generator) -> Indices:
    n, genes = rows.shape
    change = rng.random((n, genes)) < 1 / genes
    change[np.arange(n), rng.integers(0, genes, n)] = True
    beside = np.clip(rows + rng.choice([-1, 1], (n, genes)), 0, sizes - 1)
    anything = rng.integers(0, sizes, (n, genes))
    moved = np.where(rng.random((n, genes)) < 0.5, beside, anything)
    return np.where(change, moved, rows).astype(np.int64)


class _Predicted(Problem):  # type: ignore[misc]
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

    def _evaluate(self, x: Indices, out: dict[str, Any], *_: Any, **__: Any) -> None:
        features = self.encoder.features(x)
        out["F"] = np.column_stack([model.predict(features)[0] for model in self.models.objectives])
        violation = np.zeros(len(x))
        if self.models.constraints:
            out["G"] = np.column_stack([model.predict(features)[0] for model in self.models.constraints])
            violation = np.maximum(out["G"], 0).sum(axis=1)
        self.seen.append((x.copy(), out["F"], violation))


def search_predictions(encoder, models, archive, rng):
    problem = _Predicted(encoder, models)
    order = np.lexsort((rng.random(len(archive.rows)), moocore.pareto_rank(archive.values), archive.violation))
    best = archive.rows[order[: POPULATION // 2]]
    some = mutate(best[rng.integers(0, len(best), POPULATION - len(best))], encoder.sizes, rng)
    algorithm = NSGA2(
        POPULATION,
        sampling=encoder.canonical(np.concatenate([best, some])),
        crossover=_Uniform(),
        mutation=_Options(),
        repair=_Canonical(),
    )
    minimize(problem, algorithm, ("n_gen", GENERATIONS), seed=int(rng.integers(2**31)))
    rows, values, violation = (np.concatenate(part) for part in zip(*problem.seen, strict=True))
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[first], values[first], violation[first]


def choose_votes(votes, values, violation, archive, count, reference, order=None):
    front = archive.values[archive.violation <= 0]
    front = front[moocore.is_nondominated(front)] if len(front) else front
    picked = []
    believe = [front] * len(votes)
    for k in range(count):
        j = k % len(votes)
        f = believe[j]
        f = f[moocore.is_nondominated(f)]
        base = moocore.hypervolume(f, ref=reference)
        gains = np.array([moocore.hypervolume(np.vstack([f, v]), ref=reference) - base for v in votes[j]])
        gains[picked] = -1
        i = int(gains.argmax())
        if gains[i] <= 0:
            continue
        picked.append(i)
        believe = [np.vstack([b, vt[i]]) for b, vt in zip(believe, votes)]
    rest = [i for i in np.lexsort((values.sum(1), moocore.pareto_rank(values), violation)) if i not in set(picked)]
    return (picked + rest)[:count]


def choose(values, violation, archive, count, reference):
    """Greedy by hypervolume improvement."""
    front = archive.values[archive.violation <= 0]
    front = front[moocore.is_nondominated(front)] if len(front) else front
    queue = []
    base = moocore.hypervolume(front, ref=reference) if len(front) else 0.0
    gain = lambda v: moocore.hypervolume(np.vstack([front, v]), ref=reference) - base
    queue = [(-gain(v), i) for i, v in enumerate(values)]
    heapq.heapify(queue)
    picked = []
    while queue and len(picked) < count:
        _, i = heapq.heappop(queue)
        g = gain(values[i])
        if not queue or -g <= queue[0][0]:
            if g <= 0:
                break
            picked.append(i)
            front = np.vstack([front, values[i]])
            base = moocore.hypervolume(front, ref=reference)
        else:
            heapq.heappush(queue, (-g, i))
    rest = [i for i in np.lexsort((values.sum(1), moocore.pareto_rank(values), violation)) if i not in set(picked)]
    return (picked + rest)[:count]
