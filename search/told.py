"""Progress output of a search: lines for the user, and tasks with their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Teller:
    """Prints lines and tasks on `progress`."""

    progress: Progress

    def say(self, text: str) -> None:
        """Prints a line."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[TaskID]:
        """Shows a task while the block runs."""
        task = self.progress.add_task(description, total=total)
        try:
            yield task
        finally:
            self.progress.stop_task(task)

    def update(self, task: TaskID, what: str, done: int, of: int | None = None) -> None:
        """Shows how far a task is; without `of` its total stays."""
        self.progress.update(task, description=what, completed=done, total=of)  # None leaves it as it was

    def counter(self, task: TaskID) -> Callable[[int, int], None]:
        """A callback (done, total) that shows how far a task is."""
        return lambda done, total: self.progress.update(task, completed=done, total=total)
