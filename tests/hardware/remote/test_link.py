"""The channel: what is lost is said, and never taken for an answer."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from wb.core.commands.progress import heard
from wb.hardware.remote import link as module
from wb.hardware.remote.address import Address
from wb.hardware.remote.link import DeviceLost, Link, Refused

Python = Callable[[str], Link]


@pytest.fixture
def link() -> Iterator[Link]:
    """To a process on this machine."""
    made = Link("local", Address.parse("local").argv())
    yield made
    made.close()


@pytest.fixture
def python() -> Iterator[Callable[[str], Link]]:
    """Links to something that is no runner, but takes what is sent to it."""
    made: list[Link] = []

    def of(code: str) -> Link:
        made.append(Link("it", [sys.executable, "-S", "-c", f"import sys; sys.stdin.buffer.read(99)\n{code}"]))
        return made[-1]

    yield of
    for link in made:
        link.close()


def test_answers_come_to_their_questions(link: Link) -> None:
    assert link.ask("have", shas=["a"]) == {"id": 1, "missing": ["a"]}
    with pytest.raises(Refused, match="no operation 'dance'"):
        link.ask("dance")
    assert link.ask("have", shas=[])["missing"] == []


def test_a_runner_that_is_killed_is_lost_and_comes_back(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0,))
    link.ask("have", shas=[])
    assert link._process is not None
    os.kill(link._process.pid, signal.SIGKILL)
    with pytest.raises(DeviceLost, match="local does not answer"):
        link.ask("have", shas=[])
    lines: list[str] = []
    with heard(lines.append):
        link.again()
    link.again()  # nobody hears it
    assert lines == [
        "local does not answer; trying again in 0 s (1 of 1 times)",
        "local answers again; what was being measured is measured anew",
    ]
    assert link.ask("have", shas=["a"])["missing"] == ["a"]


def test_a_runner_ends_with_its_channel(link: Link) -> None:
    link.ask("have", shas=[])
    process = link._process
    assert process is not None
    link.close()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('Welcome to pi!')", "Welcome to pi!.*which is no answer"),
        ("print('[1]')", "which is no answer"),
        ("print('{\"ready\": 99}')", "protocol 1 is expected"),
        ("pass", "the channel ended"),
        ("import sys; sys.exit('ssh: Could not resolve hostname pi')", "check the name of the host"),
        ("import sys; sys.exit('Host key verification failed.')", "its key is not known here"),
        ("import sys; sys.exit('@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @')", "do not go on"),
    ],
)
def test_whatever_else_answers_is_not_taken_for_a_runner(python: Python, code: str, words: str) -> None:
    with pytest.raises(DeviceLost, match=words):
        python(code).ask("hello")


def test_silence_is_no_answer(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    link.ask("have", shas=[])
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    assert link._process is not None
    os.kill(link._process.pid, signal.SIGSTOP)
    with pytest.raises(DeviceLost, match="said nothing"):
        link.ask("have", shas=[])


def test_what_is_not_taken_is_not_waited_for(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds, to a runner that does not read."""
    link.ask("have", shas=[])
    monkeypatch.setattr(module, "SLOWEST", 1e9)
    assert link._process is not None
    os.kill(link._process.pid, signal.SIGSTOP)
    with pytest.raises(DeviceLost, match="did not take"):
        link.ask("put", bytes(1 << 21), seconds=0.2, sha="a")


def test_a_busy_runner_says_that_it_lives(python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats keep a channel open past the silence that it bears."""
    code = (
        "import sys, time; print('{\"ready\": 1}', flush=True)\n"
        "for _ in range(12): time.sleep(0.1); print('{\"beat\": true}', flush=True)\n"
        'print(\'{"id": 1, "missing": []}\', flush=True)'
    )
    monkeypatch.setattr(module, "SILENCE_S", 1.0)  # less than all of them, and much more than one: machines are busy
    assert python(code).ask("have", shas=[])["missing"] == []


def test_a_request_that_takes_too_long_is_given_up(python: Python) -> None:
    code = (
        "import time; print('{\"ready\": 1}', flush=True)\n"
        "while True: time.sleep(0.05); print('{\"beat\": true}', flush=True)"
    )
    start = time.monotonic()
    with pytest.raises(DeviceLost, match=r"longer than 0\.3 s"):
        python(code).ask("have", seconds=0.3)
    assert time.monotonic() - start < 20


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(DeviceLost, match="no-such-command"):
        Link("it", ["no-such-command"]).ask("hello")


def test_pauses_end(python: Python, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))
    before = threading.active_count()
    with pytest.raises(DeviceLost):
        python("pass").again()
    assert threading.active_count() <= before + 4
