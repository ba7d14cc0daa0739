"""All tasks by name, and the task of an architecture."""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.architecture import Architecture
from wb.tasks.base import Task
from wb.tasks.classes import CLASSES
from wb.tasks.next import NEXT

TASKS: Mapping[str, Task] = {task.name: task for task in (CLASSES, NEXT)}


def task_of(architecture: Architecture | None) -> Task:
    """The task of an architecture; a foreign graph, which has none (None), counts as a classifier."""
    return CLASSES if architecture is None else TASKS[architecture.head.task]
