from __future__ import annotations

import io
import json

import pytest

from wb.core.errors import BadData, BadOption, WbError
from wb.scale import launch
from wb.scale.launch import Told, launched
from wb.scale.team import ProcessLost

KILLED = "rank      : 1 (local_rank: 1)\n  exitcode  : -9 (pid: 7)"


def test_killed_processes_are_started_again_and_errors_are_told() -> None:
    """One pair: the second process is killed at the first try; at the next one the data turn out to be bad."""
    progress, said = list[tuple[str, int, int]](), list[str]()
    with pytest.raises(BadData, match="the data are bad"):
        launched(2, "tests.scale.killed", ["bad"], lambda *how: progress.append(how), said.append)
    assert progress == [("training", 0, 1), ("training", 1, 1)]
    assert said == ["a process ended, and all were started again (1 of 2 times); they continue at the last epoch"]


def test_what_is_told_is_a_line_of_json() -> None:
    stream = io.StringIO()
    told = Told(stream)
    told.say("it\nis")
    told.failed(BadOption("no"))
    lines = [json.loads(line.removeprefix(launch._MARK)) for line in stream.getvalue().splitlines()]
    assert lines == [{"say": "it\nis"}, {"failed": ["BadOption", "no"]}]


def test_errors_have_the_kind_that_they_had() -> None:
    assert type(launch._error("BadOption", "no")) is BadOption
    assert type(launch._error("unknown", "no")) is WbError


def test_no_process_is_no_training() -> None:
    with pytest.raises(BadOption, match="0 processes cannot train"):
        launched(0, "none", [], lambda *_: None, lambda _: None)


def test_of_a_killed_process_torchrun_knows_more_than_those_who_lost_it() -> None:
    lost, told, bad = ProcessLost("killed"), ProcessLost("process 1 does not answer"), BadOption("no room")

    def why(failed: WbError | None, code: int, text: str) -> WbError | None:
        return launch._why(failed, code, text, lambda _: lost)

    assert why(told, 1, KILLED) is lost
    assert why(None, 1, KILLED) is lost
    assert why(bad, 1, KILLED) is bad, "the others were ended for it"
    assert why(told, 1, KILLED.replace("-9", "-15")) is told
    assert why(None, 0, "") is None
