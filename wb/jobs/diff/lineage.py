"""The histories of two models: what both share, where they part, and the readings that both have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from pydantic import JsonValue

from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.jobs.diff.record import Lineage, ReadingRow
from wb.models.files.history import public
from wb.models.model import Step

SCORE = "score"  # the name of the step that reads a model and changes nothing
_VALIDATION = "validation"  # what it calls the quality on that split, which others call by the metric
_QUALITIES = {name for name, metric in METRICS.items() if metric.quality}
_LONG = 40  # characters of an argument, at most


def lineage(a: Sequence[Step], b: Sequence[Step], *, whole: bool) -> Lineage:
    """The steps that both begin with, and those that each has besides.

    Steps are compared with their readings if they are `whole`; those of a graph are without readings and paths, and are compared
    like that.
    """
    own, other = (list(a), list(b)) if whole else (_public(a), _public(b))
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(own, other, strict=False))))
    return Lineage(
        shared=tuple(map(_text, a[:shared])), a=tuple(map(_text, a[shared:])), b=tuple(map(_text, b[shared:]))
    )


def common_readings(a: Sequence[Step], b: Sequence[Step]) -> tuple[ReadingRow, ...]:
    """The readings that both have, of what either is now: what was read before a step that changed it is of another model."""
    own, other = _last(a), _last(b)
    return tuple(ReadingRow(name=name, a=own[name], b=other[name]) for name in own if name in other)


def _last(history: Sequence[Step]) -> dict[str, Reading]:
    """The readings since the last step that changed the model; its quality on the validation split has one name."""
    found: dict[str, Reading] = {}
    for step in history:
        if step.name != SCORE:
            found = {}
        found |= {_VALIDATION if name in _QUALITIES else name: reading for name, reading in step.readings.items()}
    return found


def _public(history: Sequence[Step]) -> list[Step]:
    return [Step.model_validate(step) for step in public(history)]


def _text(step: Step) -> str:
    """`prune nvit (budget macs=0.5x, epochs 10; seed 0)`: the step with its short arguments."""
    short = [text for name, value in step.arguments.items() if (text := _argument(name, value))]
    seed = [] if step.seed is None else [f"seed {step.seed}"]
    said = ", ".join([*short, *seed])
    return f"{step.name} ({said})" if said else step.name


def _argument(name: str, value: JsonValue) -> str:
    """`epochs 10`; nothing for what is long, or an outline of its own."""
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        value = ", ".join(map(str, value))
    if value in (None, "") or isinstance(value, dict | list) or len(str(value)) > _LONG:
        return ""
    return f"{name} {value}"
