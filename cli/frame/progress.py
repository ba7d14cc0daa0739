"""Progress of commands: a bar on a terminal; elsewhere a line for every stage, and one every half minute.

A task goes through stages (reading, then training). Both times shown are those of the stage. The remaining time follows from
the work of this process only, because steps that an interrupted process had finished took none of its time.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from wb.core.commands.progress import heard

EVERY = 30.0  # seconds between two lines if there is no terminal
BRIEF = 2.0  # a stage shorter than this gets no line at its end
AT_ONCE = 0.5  # steps reported within so many seconds of a stage's begin were done by an earlier process
NARROW = 100  # on a terminal with fewer columns the bar is short


@dataclass
class Stage:
    """The time and work of one stage. `total` is None if the amount of work is not known."""

    what: str
    total: float | None
    began: float
    done: float = 0.0
    ended: float | None = None

    def __post_init__(self) -> None:
        self.first = self.done  # steps that were done before this process
        self.since = self.changed = self.began
        self.continued = False  # whether it is known which these are, so that a later jump is one of this process

    def goes_on(self, what: str, total: float | None, done: float) -> bool:
        """Whether an update belongs to this stage: its details may change, and its total may become known."""
        if total is None or self.total is None:
            return (total == self.total and _stem(what) == _stem(self.what)) or (
                self.total is None and what == self.what
            )
        return total == self.total and done >= self.done

    def advance(self, what: str, total: float | None, done: float, now: float) -> None:
        """Records what is being done and how far it is."""
        self.what, self.total = what, total
        if done > self.done:
            jump = done > self.first + 1 and not self.continued
            if self.done == self.first and (jump or now - self.began < AT_ONCE):
                self.first, self.since = done, now  # an interrupted process had done these steps
                self.continued |= jump
            self.done, self.changed = done, now

    def left(self, now: float) -> float | None:
        """Seconds until the stage is done, at the pace so far; None if that is not known, or no longer.

        A step that takes longer than those before it counts as if it ended now.
        """
        if self.total is None or self.done <= self.first or self.done >= self.total or self.ended is not None:
            return None
        steps, rest, waited = self.done - self.first, self.total - self.done, now - self.changed
        pace = (self.changed - self.since) / steps
        if waited <= pace:
            return pace * rest - waited
        return (now - self.since) / (steps + 1) * (rest - 1) if rest > 1 else None

    def elapsed(self, now: float) -> float:
        """Seconds since this process began the stage."""
        return (now if self.ended is None else self.ended) - self.began

    def times(self, now: float) -> str:
        """`0:12 elapsed, 1:40 left`."""
        left = self.left(now)
        return f"{clock(self.elapsed(now))} elapsed" + ("" if left is None else f", {clock(left)} left")

    def line(self, now: float) -> str:
        """The stage as one line."""
        return f"{self.beginning()}, {self.times(now)}"

    def beginning(self) -> str:
        """The stage without times: `training: 12 of 60`."""
        return self.what if self.total is None else f"{self.what}: {self.done:.0f} of {self.total:.0f}"


class Work(Progress):
    """Rich's progress with other columns; without a terminal it prints lines instead."""

    def __init__(self, console: Console, every: float = EVERY) -> None:
        bars = console.is_terminal and not console.is_dumb_terminal
        super().__init__(
            SpinnerColumn(),
            TextColumn(
                "{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
            ),
            BarColumn(8 if console.width < NARROW else 20),
            _Count(table_column=Column(no_wrap=True)),
            _Times(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            disable=not bars,
            get_time=time.monotonic,
        )
        self._every = every
        self._stages: dict[TaskID, Stage] = {}
        self._said = 0.0  # when the last line was written
        self._over = threading.Event()
        self._told = ExitStack()

    def start(self) -> None:
        """Begins to show progress."""
        super().start()
        self._told.enter_context(heard(self._tell))
        if self.disable:
            with suppress(RuntimeError):  # no thread can be started: then lines appear with updates only
                threading.Thread(target=self._beat, daemon=True, name="wb progress").start()

    def stop(self) -> None:
        """Shows progress for the last time."""
        self._over.set()
        self._told.close()
        for stage in self._stages.values():
            self._close(stage)
        super().stop()

    def add_task(  # type: ignore[no-untyped-def]  # rich's own signature
        self,
        description: str,
        start: bool = True,
        total: float | None = None,
        completed: int = 0,
        visible: bool = True,
        **fields,
    ) -> TaskID:
        """As rich's; the total is unknown unless given."""
        stage = Stage(description, _known(total), self.get_time(), completed)
        task = super().add_task(description, start, stage.total, completed, visible, stage=stage, **fields)
        self._stages[task] = stage
        self._say(stage.beginning())
        return task

    def update(self, task_id: TaskID, **changes) -> None:  # type: ignore[no-untyped-def]  # rich's own signature
        """As rich's; a `total` of 1 or less means an unknown amount of work."""
        super().update(task_id, **changes)
        task, stage = self._tasks[task_id], self._stages[task_id]
        task.total = _known(task.total)
        now, before, continued = self.get_time(), stage.done, stage.continued
        if stage.goes_on(task.description, task.total, task.completed):
            stage.advance(task.description, task.total, task.completed, now)
            if stage.continued and not continued:  # where another process left it
                self._say(stage.beginning())
            elif self._due(now) and stage.done > before:
                self._say(stage.line(now))
            return
        self._close(stage, over=True)
        task.finished_time = None
        self._stages[task_id] = task.fields["stage"] = stage = Stage(task.description, task.total, now, task.completed)
        self._say(stage.beginning())

    def stop_task(self, task_id: TaskID) -> None:
        """As rich's: the task is over."""
        super().stop_task(task_id)
        self._close(self._stages[task_id])

    def _close(self, stage: Stage, *, over: bool = False) -> None:
        """Prints the last line of a stage if it was long enough; `over` says that another stage begins."""
        if stage.ended is None:
            stage.ended = now = self.get_time()
            if stage.elapsed(now) >= BRIEF:
                self._say(f"{stage.what}: done in {clock(stage.elapsed(now))}" if over else stage.line(now))

    def _beat(self) -> None:
        """Prints a line regularly, also if a single step takes minutes."""
        while not self._over.wait(self._every):
            now = self.get_time()
            running = [stage for stage in list(self._stages.values()) if stage.ended is None]
            if running and self._due(now, 0.5):
                self._say(running[-1].line(now))

    def _due(self, now: float, share: float = 1.0) -> bool:
        return now - self._said >= share * self._every

    def _tell(self, line: str) -> None:
        """A line that is no progress: why there is none."""
        with suppress(OSError):
            self.console.print(line, soft_wrap=True, markup=False, highlight=False)

    def _say(self, line: str) -> None:
        if self.disable:
            self._said = self.get_time()
            with suppress(OSError):  # a closed stderr is no reason to stop working
                self.console.print(line, soft_wrap=True)


class _Count(ProgressColumn):
    """`12/60`, or nothing."""

    def render(self, task: Task) -> Text:
        return Text("" if task.total is None else f"{task.completed:.0f}/{task.total:.0f}", style="progress.download")


class _Times(ProgressColumn):
    """`0:12 elapsed, 1:40 left`."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        stage: Stage = task.fields["stage"]
        return Text(stage.times(task.get_time()), style="progress.elapsed")


def clock(seconds: float) -> str:
    """`1:05`, or `2:03:00` from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _known(total: float | None) -> float | None:
    """The total, or None for 0 and 1, which jobs give if they cannot count."""
    return None if total is None or total <= 1 else total


def _stem(what: str) -> str:
    """A description without its details: `training, loss 1.234` -> `training`."""
    return what.partition(",")[0]
