"""Requirements: what a network that is asked for has to meet, such as `latency<=1ms` and `acc>=0.7`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Limit, Metric, find_metric
from wb.core.measures.readings import Reading, scaled

Sign = Literal["<=", ">="]
State = Literal["met", "within noise", "missed"]

EXAMPLE = "latency<=1ms,acc>=0.7"
LEAST_ERROR = 1e-4  # errors below count as this one, so that their logarithm exists
LEAST_COST = 1e-12
_FORM = re.compile(r"([\w@.+-]+?)\s*(<=|>=|≤|≥)\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ%]*)")


@dataclass(frozen=True)
class Requirement:
    """A bound on one metric, in the unit of its readings.

    All violations have one scale, the natural logarithm of a ratio: of the cost over its bound or, where there is a best value
    (accuracy), of the error over the error at the bound. 0.08 is "8 % over" and "8 % more errors".
    """

    metric: Metric
    sign: Sign
    bound: float

    def violation(self, value: float) -> float:
        """By how much `value` misses the bound, as a logarithm of a ratio; below 0 by how much it is on the right side."""
        return self._side * math.log(self._size(value) / self._size(self.bound))

    def slope(self, value: float) -> float:
        """The derivative of `violation` at `value`."""
        inner = -1.0 if self._best is not None else 1.0
        return self._side * inner / self._size(value)

    def met(self, value: float) -> bool:
        """Whether `value` keeps the bound."""
        return value <= self.bound if self.sign == "<=" else value >= self.bound

    def state(self, reading: Reading) -> State:
        """Whether the bound is kept for sure, missed for sure, or within the reading's 95 % interval."""
        ends = reading.interval or (reading.value, reading.value)
        kept = {self.met(end) for end in (*ends, reading.value)}
        return "within noise" if len(kept) == 2 else "met" if kept == {True} else "missed"

    def text(self) -> str:
        """`latency <= 1 ms`."""
        return f"{self.metric.name} {self.sign} {scaled(self.bound, self.metric.unit)}"

    def at(self, bound: float) -> Requirement:
        """The requirement with another bound."""
        return Requirement(self.metric, self.sign, bound)

    def relaxed_to(self, value: float) -> Requirement:
        """The tightest requirement of three digits at most that `value` keeps; of a fraction, whole hundredths of a percent."""
        least = LEAST_ERROR if self.metric.unit == "fraction" else 0.0
        step = max(10.0 ** (math.floor(math.log10(max(value, LEAST_COST))) - 2), least)
        count = round(value / step)
        nearest, looser = (
            self.at(float(f"{step * steps:.12g}")) for steps in (count, count + (1 if self.sign == "<=" else -1))
        )
        return nearest if nearest.met(value) else looser

    def missed(self, reading: Reading) -> str:
        """By how much the bound is missed: `missed by 8.1 % (0.081 ms)`, `missed by 3.00 points (12.3 % more errors)`."""
        share = 100 * math.expm1(abs(self.violation(reading.value)))
        apart = abs(reading.value - self.bound)
        if self.metric.unit == "fraction":
            what = "errors" if self._best is not None else "of it"
            return (
                f"missed by {100 * apart:.2f} points ({share:.1f} % {'more' if self.sign == '>=' else 'fewer'} {what})"
            )
        return f"missed by {share:.1f} % ({scaled(apart, self.metric.unit)})"

    def verdict(self, reading: Reading) -> str:
        """The verdict on a reading in words: `met`, `within noise: missed by …`, `missed by …`."""
        state = self.state(reading)
        if state == "met" or self.met(reading.value):
            return state if state == "met" else "met, within noise"
        return self.missed(reading) if state == "missed" else f"within noise: {self.missed(reading)}"

    @property
    def limit(self) -> Limit | None:
        """The same as a budget; None for a bound on the other side, which budgets do not have."""
        usual = "<=" if self.metric.direction == "minimize" else ">="
        return Limit(self.metric, self.bound) if self.sign == usual else None

    @property
    def _best(self) -> float | None:
        return self.metric.best if self.metric.direction == "maximize" else None

    @property
    def _side(self) -> float:
        """1 where less of `_size` is asked for, else -1."""
        return 1.0 if (self.sign == "<=") == (self._best is None) else -1.0

    def _size(self, value: float) -> float:
        return max(value, LEAST_COST) if self._best is None else max(self._best - value, LEAST_ERROR)


@dataclass(frozen=True)
class Asked:
    """What networks are sought for: the requirements, and what is best among those that meet all.

    `goal` None is the smallest margin. With `practice`, networks against the best practice of their space do not count.
    """

    requirements: tuple[Requirement, ...]
    goal: Metric | None = None
    practice: bool = True

    def within(self, limits: Sequence[Limit]) -> Asked:
        """The same with budgets as further requirements."""
        return replace(self, requirements=(*self.requirements, *map(of_limit, limits)))

    @property
    def metrics(self) -> frozenset[str]:
        """The names of the metrics that have to be known of a network."""
        return frozenset(one.metric.name for one in self.requirements) | ({self.goal.name} if self.goal else set())

    def text(self) -> str:
        """The same in words, whatever the order: `acc >= 70.00 %, latency <= 1 ms; smallest margin`."""
        texts = ", ".join(sorted(one.text() for one in self.requirements))
        return f"{texts}; {'smallest margin' if self.goal is None else self.goal.name}"


def of_limit(limit: Limit) -> Requirement:
    """A budget as a requirement."""
    return Requirement(limit.metric, "<=" if limit.metric.direction == "minimize" else ">=", limit.value)


def violations_of(requirements: Sequence[Requirement], readings: Mapping[str, Reading]) -> tuple[float, ...]:
    """How far the readings of one network miss each requirement, 0 where it is met."""
    return tuple(max(0.0, one.violation(readings[one.metric.name].value)) for one in requirements)


def meets(requirements: Sequence[Requirement], readings: Mapping[str, Reading]) -> bool:
    """Whether the readings of one network keep every bound, by value."""
    return all(one.met(readings[one.metric.name].value) for one in requirements)


def check_limits(requirements: Sequence[Requirement], limits: Sequence[Limit]) -> None:
    """Raises `BadOption` if a requirement and a budget exclude each other."""
    for limit in map(of_limit, limits):
        for one in requirements:
            if one.metric is limit.metric and one.sign != limit.sign and not limit.met(one.bound):
                raise BadOption(
                    f"requirement {one.text()} and budget {limit.text()} contradict each other; nothing keeps both"
                )


def parse_requirements(texts: Sequence[str]) -> tuple[Requirement, ...]:
    """`["latency<=1ms,acc>=0.7"]` -> requirements, in that order.

    Raises:
        BadOption: not of this form, an unknown metric or unit, no possible value, two bounds on the same side of one metric,
            or two that exclude each other.
    """
    found: list[Requirement] = []
    for part in [part.strip() for text in texts for part in text.split(",") if part.strip()]:
        new = _parse(part)
        _check_beside(new, (old for old in found if old.metric is new.metric))
        found.append(new)
    return tuple(found)


def _parse(text: str) -> Requirement:
    match = _FORM.fullmatch(text)
    if match is None:
        raise BadOption(f"{text!r} is no requirement{_hint(text)}; write for example {EXAMPLE}")
    name, sign, number, unit = match.groups()
    metric = find_metric(name)
    if metric is None:
        raise BadOption(f"no metric {name!r} in requirement {text!r}; there are {', '.join(METRICS)}")
    if unit.lower() not in metric.units:
        units = ", ".join(repr(known) for known in metric.units)
        raise BadOption(f"{unit!r} in requirement {text!r} is no unit of {name}; it takes {units}")
    try:
        bound = float(number) * metric.units[unit.lower()]
    except ValueError:
        raise BadOption(f"{number!r} in requirement {text!r} is no number; write for example {EXAMPLE}") from None
    if bound <= 0 or not math.isfinite(bound):
        raise BadOption(f"requirement {text!r} needs a positive number; write for example {EXAMPLE}")
    if metric.best is not None and bound > metric.best:
        raise BadOption(
            f"requirement {text!r} asks for more than {100 * metric.best:g} %; write for example {name}>=0.7 or {name}>=70%"
        )
    return Requirement(metric, "<=" if sign in ("<=", "≤") else ">=", bound)


def _hint(text: str) -> str:
    """What is wrong with its sign, if that is all."""
    match = re.fullmatch(r"(\w+)\s*(=<|=>|==?|<|>)(.+)", text)
    if match is None or match[1] not in METRICS:
        return ""
    usual = "<=" if METRICS[match[1]].direction == "minimize" else ">="
    meant = {"<": "<=", "=<": "<=", ">": ">=", "=>": ">="}.get(match[2], usual)
    return f": {match[2]!r} is no sign of one, did you mean {match[1]}{meant}{match[3].strip()}?"


def _check_beside(new: Requirement, others: Iterable[Requirement]) -> None:
    for old in others:
        if old.sign == new.sign:
            raise BadOption(f"two requirements {old.text()} and {new.text()}; give the one that matters")
        low, high = (new, old) if new.sign == ">=" else (old, new)
        if low.bound > high.bound:
            raise BadOption(f"requirements {low.text()} and {high.text()} contradict each other; nothing can meet both")
