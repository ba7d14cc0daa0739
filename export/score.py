"""Scoring of an exported graph on its task, by the runtime alone, so that reports describe the file itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.commands.progress import Count
from wb.core.measures.readings import Reading
from wb.core.specs import NO_LABEL
from wb.data import Split
from wb.export.run import BATCH, Runner
from wb.hardware.device import Device
from wb.tasks.base import Grades, Task


def unheard(done: int, of: int) -> None:
    """Nobody waits."""


def outputs(
    path: Path, split: Split, device: Device, batch: int | None = None, told: Count = unheard
) -> NDArray[np.float32]:
    """The outputs of the graph at `path` for every example of `split`: (n, ...). Raises as `wb.export.run.Runner` does."""
    run, found = Runner(path, device), []
    places: list[NDArray[np.int_]] = []
    for index in split.together(run.fixed or batch or BATCH):
        told(sum(map(len, places)), len(split))
        found.append(run(split.feed(index), batch))
        places.append(np.arange(len(split))[index])
    return np.concatenate(found)[np.argsort(np.concatenate(places))]


def checked(
    path: Path, split: Split, task: Task, device: Device, batch: int | None = None, told: Count = unheard
) -> NDArray[Any]:
    """The same outputs, after the task's checks.

    Raises:
        BadArtefact, BadData: as `wb.export.run.Runner` and `Task.check_outputs` do.
    """
    found = outputs(path, split, device, batch, told)
    task.check_outputs(found, split.labels, str(path))
    return found


def graded(path: Path, split: Split, task: Task, device: Device, told: Count = unheard) -> Grades:
    """The grades of the graph's outputs, one per example, some at a time. Raises as `checked` does."""
    run, each = Runner(path, device), []
    places: list[NDArray[np.int_]] = []
    for index in split.together(run.fixed or BATCH):
        told(sum(map(len, places)), len(split))
        found, labels = run(split.feed(index)), split.labels[index]
        task.check_outputs(found, labels, str(path))
        each.append(task.grade(found, labels).each)
        places.append(np.arange(len(split))[index])
    return Grades(np.concatenate(each)[np.argsort(np.concatenate(places))], split.labels)


def nats(path: Path, split: Split, device: Device, *, steps: bool) -> float:
    """What a token of the passages of `split` costs a graph that continues texts, read at once or in `steps` of one token.

    Each passage is as heavy as it has tokens that are foreseen, as in `Next.reading`.
    """
    from wb.export.decoder import Continuing  # both load torch, which timing alone does not need
    from wb.tasks.next import NEXT

    run, each, heavy = Continuing(path, device), [], (split.labels != NO_LABEL).sum(axis=1)
    for i in range(len(split)):
        ids, labels = split.inputs(slice(i, i + 1)), split.labels[i : i + 1]
        run.begin(1)
        found = np.concatenate([run(ids[:, n : n + 1]) for n in range(ids.shape[1])], axis=1) if steps else run(ids)
        each.append(float(NEXT.grade(found, labels).each[0]))
    return float(np.average(each, weights=heavy))


def score(
    path: Path, split: Split, task: Task, device: Device, batch: int | None = None, told: Count = unheard
) -> Reading:
    """The task's metric of the graph on `split`; `told` is called before every batch. Raises as `checked` does."""
    return examined(path, split, task, device, batch, told=told)[0]


def examined(
    path: Path,
    split: Split,
    task: Task,
    device: Device,
    batch: int | None = None,
    *,
    own: bool = False,
    told: Count = unheard,
) -> tuple[Reading, str | None]:
    """The reading, and a warning if it is hardly better than guessing (`Task.doubt`). Raises as `checked` does."""
    if split.task == "next":  # scores for every token are too many to hold
        grades = graded(path, split, task, device, told)
        reading = task.reading(grades, device.scorer.text)
        return reading, task.doubt(reading, grades.each, split.labels, own=own)
    found = checked(path, split, task, device, batch, told)
    reading = task.reading(task.grade(found, split.labels), device.scorer.text)
    return reading, task.doubt(reading, found, split.labels, own=own)
