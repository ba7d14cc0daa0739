"""What a search tells while it works: lines, and stages with their progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Teller:
    """Tells on `progress`."""

    progress: Progress

    def say(self, text: str) -> None:
        """A line."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[TaskID]:
        """Something that is being done meanwhile."""
        task = self.progress.add_task(description, total=total)
        try:
            yield task
        finally:
            self.progress.stop_task(task)

    def update(self, task: TaskID, what: str, done: int, of: int | None = None) -> None:
        """How far a task is: of `of`, or of what was said before."""
        self.progress.update(task, description=what, completed=done, total=of)  # None leaves it as it was

    def counter(self, task: TaskID) -> Callable[[int, int], None]:
        """What hears how far a task is."""
        return lambda done, total: self.progress.update(task, completed=done, total=total)
