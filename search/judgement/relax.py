"""The least relaxation of a single requirement that makes the others reachable: in the archive, and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Asked, Requirement, meets, violations_of
from wb.predictors.features import Encoder
from wb.search.judgement.record import Attainable, Relaxation
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
    """That of `one`, by the readings of the evaluated networks.

    `predicted` is what `reachable` says; it is left out where an evaluated network is as good.
    """
    name = one.metric.name
    fitting = {number: found[name] for number, found in readings.items() if meets(others, found)}
    best = min(fitting, key=lambda number: one.violation(fitting[number].value), default=None)
    if best is not None and predicted is not None and one.violation(predicted) >= one.violation(fitting[best].value):
        predicted = None
    how = None if predicted is None else Reading(value=predicted, unit=one.metric.unit, how="predicted")
    return Relaxation(network=best, reading=None if best is None else fitting[best], predicted=how)


def attainable(requirements: Sequence[Requirement], readings: Mapping[int, Mapping[str, Reading]]) -> Attainable | None:
    """What the network meets that misses one requirement only, and that by least; else the one with the least sum of violations.

    None if there is no network.
    """

    def effort(number: int) -> tuple[bool, float]:
        missed = violations_of(requirements, readings[number])
        return sum(each > 0 for each in missed) > 1, sum(missed)

    best = min(readings, key=effort, default=None)
    if best is None:
        return None
    found = [(one, readings[best][one.metric.name]) for one in requirements]
    asked = [one if one.met(reading.value) else one.relaxed_to(_surely(one, reading)) for one, reading in found]
    return Attainable(network=best, requirements=tuple(one.text() for one in asked if one.bound > 0))


def _surely(one: Requirement, reading: Reading) -> float:
    """A bound that the network keeps when it is read again: a time varies, and quality on the same images does not."""
    if one.metric.quality or reading.interval is None:
        return reading.value
    return reading.interval[1 if one.sign == "<=" else 0]


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
    kept = practice_of(encoder) if asked.practice else None
    found = generate([start(uniform, archive, only)], inquisitor, np.random.default_rng(seed), kept)
    means = {name: mean for name, (mean, _) in inquisitor.predict(found.rows).items()}
    fitting = np.ones(len(found.rows), dtype=np.bool_)
    for other in others:
        fitting &= [other.met(value) for value in means[other.metric.name]]
    values = means[one.metric.name][fitting]
    return min(map(float, values), key=one.violation, default=None)
