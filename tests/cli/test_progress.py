"""Progress with a clock of its own: what is said on terminals of every width, and where there is none."""

from __future__ import annotations

import io
import re
import time

import pytest

from wb.cli.frame.output import Plain
from wb.cli.frame.progress import Stage, Work, clock


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def work(*, terminal: bool, width: int = 80, every: float = 30.0) -> tuple[Work, Clock, io.StringIO]:
    out = io.StringIO()
    made = Work(Plain(file=out, force_terminal=terminal, width=width, color_system=None), every)
    made.get_time = now = Clock()
    return made, now, out


def row(progress: Work, width: int) -> str:
    """What a terminal shows of the tasks."""
    console = Plain(file=io.StringIO(), width=width, force_terminal=True, color_system=None, record=True)
    console.print(progress.get_renderable())
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("done", [3, 97])
def test_a_bar_fits_and_no_time_is_cut_off(width: int, done: int) -> None:
    progress, now, _ = work(terminal=True, width=width)
    task = progress.add_task("evaluating candidates", total=100)
    now.now += 10
    progress.update(task, completed=1)
    now.now += 3690
    what = "evaluating candidates, last acc 0.9123  latency 0.04567  size 1.234e+05  energy 1.2e+06"
    progress.update(task, completed=done, description=what)
    (line,) = row(progress, width).splitlines()
    assert len(line) <= width
    assert re.search(rf"{done}/100 1:01:40 elapsed, \d+:\d\d(:\d\d)? left", line), line
    assert line[2:].startswith("evaluating cand")


def test_a_terminal_is_drawn_on_from_the_first_moment() -> None:
    progress, _, out = work(terminal=True)
    with progress:
        task = progress.add_task("reading", total=None)
        progress.update(task, description="training", total=3, completed=1)
        progress.stop_task(task)
    assert "reading" in out.getvalue()
    assert "1/3 0:00 elapsed" in out.getvalue()


def test_both_times_say_what_they_are() -> None:
    stage = Stage("training", 60, began=0.0)
    assert stage.times(12) == "0:12 elapsed"
    stage.advance("training, loss 1.5", 60, 1, 12.0)
    stage.advance("training, loss 1.4", 60, 2, 24.0)
    assert stage.line(24) == "training, loss 1.4: 2 of 60, 0:24 elapsed, 11:36 left"
    assert stage.times(30) == "0:30 elapsed, 11:30 left", "it runs down while nothing new is done"
    assert stage.left(36) == pytest.approx(stage.left(36.001), abs=0.1) == 57 * 12
    assert stage.times(96) == "1:36 elapsed, 30:24 left", "a step that lasts longer slows the pace down"
    stage.advance("training", 60, 59, 708.0)
    assert stage.times(721) == "12:01 elapsed", "it is late, and nobody knows how much"
    stage.advance("training", 60, 60, 730.0)
    assert stage.times(730) == "12:10 elapsed"


def test_what_an_interrupted_process_did_takes_none_of_the_time() -> None:
    """Of 60 epochs, 50 were done before: after two of this process, at 10 s each, 80 s are left (and not 3)."""
    for told in (50, 51):  # whether it is told at once or with the first new epoch
        stage = Stage("training", 60, began=0.0)
        stage.advance("training", 60, told, 0.0 if told == 50 else 10.0)
        for epoch in range(told + 1, 53):
            stage.advance("training", 60, epoch, 10.0 * (epoch - 50))
        assert stage.left(20) == pytest.approx(80)
    searched = Stage("evaluating", 12, began=0.0)
    searched.advance("evaluating", 12, 1, 0.01)  # of the study; the next one takes 10 s
    searched.advance("evaluating", 12, 2, 10.01)
    assert searched.left(10.01) == pytest.approx(100)
    begun_at = Stage("evaluating", 100, began=5.0, done=40)
    begun_at.advance("evaluating", 100, 41, 7.0)
    assert begun_at.left(7.0) == pytest.approx(118)


def test_without_a_terminal_every_stage_is_told_and_long_ones_now_and_then() -> None:
    progress, now, out = work(terminal=False)
    with progress:
        task = progress.add_task("reading the data", total=None)
        assert out.getvalue() == "reading the data\n", "at once"
        progress.update(task, description="training", total=4, completed=0)
        for epoch in range(1, 5):
            now.now += 20
            progress.update(task, description=f"training, loss {1 / epoch:.2f}", completed=epoch, total=4)
        now.now += 1
        progress.update(task, description="final readings", total=1, completed=0)
    assert out.getvalue().splitlines() == [
        "reading the data",
        "training: 0 of 4",
        "training, loss 0.50: 2 of 4, 0:40 elapsed, 0:40 left",
        "training, loss 0.25: 4 of 4, 1:20 elapsed",
        "training, loss 0.25: done in 1:21",
        "final readings",
    ]


def test_one_long_step_is_told_of_while_it_lasts() -> None:
    out = io.StringIO()
    with Work(Plain(file=out, width=80), every=0.02) as progress:
        progress.add_task("calibrating", total=None)
        deadline = time.monotonic() + 20
        while "calibrating, 0:00 elapsed" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "calibrating, 0:00 elapsed" in out.getvalue()


def test_an_end_before_its_time_says_how_far_it_came() -> None:
    progress, now, out = work(terminal=False)
    task = progress.add_task("training", total=60)
    progress.update(task, completed=1)
    now.now += 9
    progress.update(task, completed=2)
    with pytest.raises(KeyboardInterrupt), progress:
        raise KeyboardInterrupt
    assert out.getvalue().splitlines()[-1] == "training: 2 of 60, 0:09 elapsed"


def test_steps_with_names_of_their_own_are_one_stage() -> None:
    progress, now, out = work(terminal=False)
    with progress:
        task = progress.add_task("reading", total=None)
        for i in range(5):
            progress.update(task, description=f"sensitivity of b{i} in int8", completed=i, total=5)
            now.now += 1
    assert out.getvalue().splitlines()[1] == "sensitivity of b0 in int8: 0 of 5"
    assert len(out.getvalue().splitlines()) == 3


def test_steps_of_many_are_told_now_and_then_too() -> None:
    progress, now, out = work(terminal=False)
    with progress:
        task = progress.add_task("comparing", total=160)
        for done in range(16, 161, 16):
            now.now += 2
            progress.update(task, completed=done)
    first, second, *rest = out.getvalue().splitlines()
    assert (first, second) == ("comparing: 0 of 160", "comparing: 16 of 160")
    assert rest == ["comparing: 160 of 160, 0:20 elapsed"]


def test_progress_that_nobody_reads_stops_no_work() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    with Work(Plain(file=Closed(), stderr=True, width=80)) as progress:
        progress.update(progress.add_task("training", total=3), completed=1)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65.4, "1:05"), (3599.6, "1:00:00"), (7380, "2:03:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
