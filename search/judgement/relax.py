"""The least relaxation of a single requirement that makes the others reachable: in the archive, and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from wb.core.readings import Reading
from wb.core.requirements import Asked, Requirement, meets
from wb.predictors.features import Encoder
from wb.search.judgement.record import Relaxation
from wb.search.sampler.cross_entropy import generate, start
from wb.search.sampler.generate import practice_of
from wb.search.sampler.generator import Generator
from wb.search.sampler.inquisitor import Archive, Inquisitor

FEWEST = 8  # evaluated networks, below which nothing is predicted


def relaxation(
    one: Requirement,
    others: Sequence[Requirement],
    readings: Mapping[int, Mapping[str, Reading]],
    predicted: float | None,
) -> Relaxation:
    """That of `one`, by the readings of the evaluated networks; `predicted` is what `reachable` says."""
    name = one.metric.name
    fitting = {number: found[name] for number, found in readings.items() if meets(others, found)}
    best = min(fitting, key=lambda number: one.violation(fitting[number].value), default=None)
    how = None if predicted is None else Reading(value=predicted, unit=one.metric.unit, how="predicted")
    return Relaxation(network=best, reading=None if best is None else fitting[best], predicted=how)


def reachable(
    one: Requirement, asked: Asked, encoder: Encoder, archive: Archive, uniform: Generator, seed: int
) -> float | None:
    """The best mean of the metric of `one` that cross-entropy finds among networks predicted to meet all other requirements.

    None if there are too few evaluated networks, or no network is predicted to meet the others.
    """
    if len(archive.rows) < FEWEST:
        return None
    others = tuple(other for other in asked.requirements if other != one)
    goal = replace(one.metric, direction="minimize" if one.sign == "<=" else "maximize")
    only = replace(asked, requirements=others, goal=goal)
    inquisitor = Inquisitor(encoder, archive, only, seed)
    kept = practice_of(encoder) if asked.best_practice else None
    found = generate([start(uniform, archive, only)], inquisitor, np.random.default_rng(seed), kept)
    means = {name: mean for name, (mean, _) in inquisitor.predict(found.rows).items()}
    fitting = np.ones(len(found.rows), dtype=np.bool_)
    for other in others:
        fitting &= [other.met(value) for value in means[other.metric.name]]
    values = means[one.metric.name][fitting]
    return min(map(float, values), key=one.violation, default=None)
