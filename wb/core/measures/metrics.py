"""The metrics that a search can have as objectives and a budget can limit."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from wb.core.errors import BadOption
from wb.core.measures.readings import Reading, scaled


@dataclass(frozen=True)
class Metric:
    """A name, which way is better, the unit of its readings, and the units in which a budget may be given.

    A metric of `quality` says how good a network is at its task, others what it costs; `best` is the best value that there is,
    None where costs have no such end.
    """

    name: str
    direction: Literal["maximize", "minimize"]
    unit: str
    title: str
    units: Mapping[str, float]  # what a user may write -> factor to `unit`
    quality: bool = False
    best: float | None = None

    def cost(self, reading: Reading) -> float:
        """The reading's value, negated where more is better: less is better, whatever the metric."""
        return reading.value if self.direction == "minimize" else -reading.value


_JOULES = {"pj": 1.0, "nj": 1e3, "uj": 1e6, "µj": 1e6, "mj": 1e9}
_TIMES = {"ms": 1.0, "s": 1e3, "us": 1e-3, "µs": 1e-3}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}

ACCURACY = Metric("acc", "maximize", "fraction", "accuracy", {"": 1.0, "%": 0.01}, quality=True, best=1.0)
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        ACCURACY,
        Metric("latency", "minimize", "ms", "latency", _TIMES),
        Metric("size", "minimize", "B", "file size", _BYTES),
        Metric("macs", "minimize", "MAC", "multiply-accumulates", _COUNTS),
        Metric("params", "minimize", "parameters", "parameters", _COUNTS),
        Metric("energy", "minimize", "pJ", "modelled energy", _JOULES),
        Metric("ppl", "minimize", "ppl", "perplexity", {"": 1.0, "ppl": 1.0}, quality=True),
        Metric("latency@prompt", "minimize", "ms", "latency of a prompt", _TIMES),
        Metric("latency@token", "minimize", "ms", "latency of one more token", _TIMES),
        Metric("memory", "minimize", "B", "memory", _BYTES),
        Metric("load", "minimize", "ms", "loading time", _TIMES),
    )
}
QUALITIES = tuple(name for name, metric in METRICS.items() if metric.quality)
CONTINUING = ("latency@prompt", "latency@token")  # costs of networks that continue texts alone
LATENCIES = ("latency", *CONTINUING)  # the first of networks that do not
APART = ("memory", "load")  # costs that are measured in a process of their own, where searches ask for them
COSTS = tuple(name for name, one in METRICS.items() if not one.quality and name not in (*CONTINUING, *APART))


_ON = re.compile(r"latency@([\w.+-]+)")  # a device by its name


def find_metric(name: str) -> Metric | None:
    """The metric of that name; `latency@NAME` is the latency on the device NAME, where searches measure on several."""
    return METRICS.get(name) or (None if _ON.fullmatch(name) is None else _on_device(name))


def the_metric(name: str) -> Metric:
    """The metric of that name, which is known to be one."""
    found = find_metric(name)
    if found is None:
        raise KeyError(name)
    return found


def device_of(metric: str) -> str | None:
    """The device that a metric's name has; None for others, and for the two kinds of runs of networks that continue texts."""
    match = None if metric in METRICS else _ON.fullmatch(metric)
    return None if match is None else match[1]


@cache
def _on_device(name: str) -> Metric:
    """One record for each name, as limits on one metric are told by its identity."""
    return Metric(name, "minimize", "ms", f"latency on {device_of(name)}", _TIMES)


@dataclass(frozen=True)
class Limit:
    """A hard limit on one metric, in the unit of its readings.

    `relative` ones are a share of the input model's value; `change` ones are added to it (`acc=-0.5`: half a point less).
    """

    metric: Metric
    value: float
    relative: bool = False
    change: bool = False

    def against(self, given: Reading) -> Limit:
        """The limit in the unit of readings, for an input model that has `given`."""
        if self.relative:
            return Limit(self.metric, self.value * given.value)
        return Limit(self.metric, self.value + given.value) if self.change else self

    def excess(self, reading: Reading) -> float:
        """How far `reading` is over the limit, as a share of it; not above 0 if it is kept."""
        difference = reading.value - self.value
        return (difference if self.metric.direction == "minimize" else -difference) / self.value

    def text(self) -> str:
        """`latency <= 2 ms`."""
        sign = "<=" if self.metric.direction == "minimize" else ">="
        if self.change:
            return f"{self.metric.name} {sign} {100 * self.value:+g} points"
        amount = f"{self.value:g}x" if self.relative else scaled(self.value, self.metric.unit)
        return f"{self.metric.name} {sign} {amount}"


def parse_objectives(text: str) -> tuple[Metric, ...]:
    """`acc,latency` -> metrics, in that order.

    Raises:
        BadOption: none, more than four, an unknown one, or one twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = ", ".join(METRICS)
    if not 1 <= len(names) <= 4:
        raise BadOption(f"{len(names)} objectives in {text!r}; give one to four of {known}")
    for name in names:
        if find_metric(name) is None:
            raise BadOption(
                f"no objective {name!r}; there are {known}, and latency@NAME of a device (`wb device list`)"
            )
    if len(set(names)) < len(names):
        raise BadOption(f"an objective comes twice in {text!r}; name each once")
    return tuple(the_metric(name) for name in names)


@dataclass(frozen=True)
class Rules:
    """Which budgets make sense somewhere: on which metrics, as a share of an input model, as a loss of its accuracy.

    With `devices` also on latencies on devices by their names.

    What an error advises is always something that these rules allow.
    """

    metrics: tuple[str, ...] = (ACCURACY.name, *COSTS)
    shares: bool = True
    changes: bool = False
    devices: bool = False

    def example(self) -> str:
        """A few budgets that are allowed: `latency=2ms, size=1MB, macs=0.5x`."""
        texts = {"latency": "latency=2ms", "size": "size=1MB", "macs": "macs=0.5x" if self.shares else "macs=1M"}
        return ", ".join(text for name, text in texts.items() if name in self.metrics)

    def on_quality(self, metric: Metric) -> str:
        """A budget on a metric of quality that is allowed: `acc=-0.5`, `acc=0.95`."""
        if metric.best is None:  # of a scale without an end, on which points would say nothing
            return f"{metric.name}=1.02x" if self.shares else f"{metric.name}=20"
        return f"{metric.name}=-0.5" if self.changes else f"{metric.name}=0.95"


def parse_budget(texts: Sequence[str], rules: Rules | None = None) -> tuple[Limit, ...]:
    """`["latency=2ms,size=1MB", "macs=0.5x"]` -> limits; where the rules allow changes also `acc=-0.5`, in percentage points.

    Raises:
        BadOption: not of this form, an unknown metric or unit, not a positive number, two limits on one metric, or one that
            the rules (by default all but changes) do not allow.
    """
    rules = rules or Rules()
    limits: list[Limit] = []
    for part in [part.strip() for text in texts for part in text.split(",") if part.strip()]:
        limit = _parse_limit(part, rules)
        if any(other.metric is limit.metric for other in limits):
            raise BadOption(f"two budgets on {limit.metric.name}; give one")
        limits.append(limit)
    return tuple(limits)


def of_runs(limits: Sequence[Limit], *, continues: bool) -> tuple[Limit, ...]:
    """The limits as they are of a network that `continues` texts, or not: the latency of one that does is that of a token.

    Raises:
        BadOption: a latency that only the others have, or two limits on one metric.
    """
    if not continues:
        for limit in limits:
            if limit.metric.name in CONTINUING:
                raise BadOption(
                    f"{limit.text()} is for networks that continue texts, and this one does not; write latency instead"
                )
        return tuple(limits)
    token = METRICS[CONTINUING[1]]
    found = tuple(replace(limit, metric=token) if limit.metric.name == LATENCIES[0] else limit for limit in limits)
    if sum(limit.metric is token for limit in found) > 1:
        raise BadOption(
            "latency of a network that continues texts is latency@token, and there are budgets on both; give one"
        )
    return found


def costs_of(*, continues: bool) -> tuple[str, ...]:
    """The costs that networks have which continue texts, or do not."""
    return (*(CONTINUING if continues else LATENCIES[:1]), *(name for name in COSTS if name not in LATENCIES))


def usual_latency(readings: Container[str]) -> str:
    """The latency that is meant where nothing says which: that of a token, of a network that has it."""
    return CONTINUING[1] if CONTINUING[1] in readings else LATENCIES[0]


def _parse_limit(text: str, rules: Rules) -> Limit:
    match = re.fullmatch(r"([\w@.+-]+?)\s*=\s*(-?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zA-Zµ%]*)", text)
    if match is None:
        raise BadOption(f"{text!r} is no budget; write for example {rules.example()}")
    name, number, unit = match.groups()
    metric = _metric(name, text, rules)
    try:
        value = float(number)
    except ValueError:
        raise BadOption(f"{number!r} in budget {text!r} is no number; write for example {rules.example()}") from None
    if metric.quality and number.startswith("-"):
        return _parse_change(text, metric, value, unit, rules)
    if value <= 0:
        raise BadOption(f"budget {text!r} allows nothing; give a positive number")
    if metric.direction == "maximize" and metric.best is not None and value * metric.units.get(unit, 1.0) > metric.best:
        raise BadOption(
            f"budget {text!r} asks for more than {100 * metric.best:g} %; write for example {name}=0.95 or {name}=95%"
        )
    if unit == "x" and rules.shares:
        return Limit(metric, value, relative=True)
    if unit == "x":
        raise BadOption(f"budget {text!r} is relative, but there is no input model here; give an absolute value")
    if unit.lower() not in metric.units:
        units = ", ".join(repr(known) for known in metric.units)
        share = ", or x for a share" if rules.shares else ""
        raise BadOption(f"{unit!r} in budget {text!r} is no unit of {name}; it takes {units}{share}")
    return Limit(metric, value * metric.units[unit.lower()])


def _metric(name: str, text: str, rules: Rules) -> Metric:
    """The metric of that name, which budget `text` is on."""
    known = ", ".join(rules.metrics)
    found = find_metric(name)
    if found is None:
        raise BadOption(f"no metric {name!r} in budget {text!r}; there are {known}")
    if name not in rules.metrics and not (rules.devices and device_of(name) is not None):
        raise BadOption(
            f"budget {text!r} is on {found.title}, which cannot be aimed at here; limit one of {known}, for example "
            f"{rules.example()}"
        )
    return found


def _parse_change(text: str, metric: Metric, points: float, unit: str, rules: Rules) -> Limit:
    """`acc=-0.5`: what may be lost."""
    if metric.best is None:
        raise BadOption(
            f"budget {text!r} is a loss in points, which {metric.title} has not; write {rules.on_quality(metric)}"
        )
    if not rules.changes:
        raise BadOption(
            f"budget {text!r} is relative to an input model's {metric.title}, which only `wb quantize` keeps to; "
            f"write for example {rules.on_quality(metric)}"
        )
    if unit not in ("", "%"):
        raise BadOption(
            f"{unit!r} in budget {text!r} is no unit of a loss of {metric.title}; write for example {metric.name}=-0.5"
        )
    if points <= -100:
        raise BadOption(f"budget {text!r} allows a loss of more than 100 points; write for example {metric.name}=-0.5")
    return Limit(metric, points / 100, change=True)
