"""`wb` and other programs in processes of their own, forked from one that has loaded everything: a start takes no seconds.

They can be killed, have limits of their own, and share nothing with the test, as processes that are started anew.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.loaded"])
PATIENCE_S = 240.0  # before something is held never to happen


class Done(NamedTuple):
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Program:
    """A program in Python, which runs at once with these arguments."""

    def __init__(self, code: str, *arguments: object) -> None:
        self._out, self._err = (tempfile.NamedTemporaryFile() for _ in range(2))  # noqa: SIM115  # until they are read
        given = (code, [*map(str, arguments)], dict(os.environ), self._out.name, self._err.name)
        self._process = SERVER.Process(target=_run, args=given)
        self._process.start()
        self._done: Done | None = None

    def until(self, condition: Callable[[], object]) -> Self:
        """Waits for it, while the command runs."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._process.is_alive(), f"it ended before: {self.end()}"
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.02)
        return self

    def send(self, signal: int) -> Self:
        """Sends it a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal)
        return self

    def kill(self) -> None:
        """Ends it in the middle of whatever it does."""
        self._process.kill()
        self.end()

    def end(self) -> Done:
        """Waits for its end."""
        if self._done is None:
            self._process.join()
            files = (self._out, self._err)
            said = [Path(file.name).read_text(encoding="utf-8", errors="replace") for file in files]
            for file in files:
                file.close()
            self._done = Done(self._process.exitcode or 0, *said)
        return self._done


class Command(Program):
    """`wb` with these arguments; `first` is code that is run before."""

    def __init__(self, *arguments: object, first: str = "") -> None:
        super().__init__(f"{first}\nfrom wb.cli.main import main\nmain()", *arguments)


def _run(code: str, arguments: list[str], environment: dict[str, str], out: str, err: str) -> None:
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    sys.argv = ["wb", *arguments]
    exec(code, {"__name__": "__main__"})
