"""Starts the processes of a training, or of a line, by torchrun, and hears from the first of them.

That one writes a line of JSON for whatever there is to tell (`Told`); an error that users understand is told too, and ends all
processes without another try. When a process of a training ends otherwise, torchrun starts all of them again, and they continue
at their checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

from wb.core.errors import BadOption, WbError
from wb.scale.joining import board, rank
from wb.scale.team import ProcessLost

TRIES = 2  # how often processes are started again
LAUNCHER = "WB_LAUNCHER"  # the number of the process that waits for the training
_MARK = "wb: "
_ENDED = re.compile(r"rank\s*: (\d+) .*\n\s*exitcode\s*: (-?\d+)")
_PATIENCE_S = 5.0
_GLANCE_S = 1.0
_LAST = 1_500  # characters of what torchrun said that an error quotes


class Told:
    """How the first process tells those who wait what it does; others only tell why they end."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout

    def progress(self, what: str, done: int, of: int) -> None:
        """How far a stage is."""
        if rank() == 0:
            self._tell(progress=[what, done, of])

    def say(self, text: str) -> None:
        """A line for the user."""
        if rank() == 0:
            self._tell(say=text)

    def give(self, text: str) -> None:
        """A piece of what is made."""
        if rank() == 0:
            self._tell(give=text)

    def failed(self, error: WbError) -> None:
        """Why the work ends."""
        self._tell(failed=[type(error).__name__, str(error)])

    def _tell(self, **content: Any) -> None:
        self._stream.write(f"{_MARK}{json.dumps(content)}\n")  # at once, so that lines of several processes do not mix
        self._stream.flush()


@contextmanager
def telling() -> Iterator[Told]:
    """Within one of the processes: tells of errors, ends when nobody waits any more, and says if there was a try before."""
    told, launcher = Told(), os.environ.get(LAUNCHER)
    if rank() == 0 and launcher is not None:
        threading.Thread(target=_end_with, args=(int(launcher),), daemon=True).start()
    if tries := board().tries:
        told.say(
            f"a process ended, and all were started again ({tries} of {TRIES} times); they continue at the last epoch"
        )
    try:
        yield told
    except ProcessLost:
        raise
    except WbError as error:
        told.failed(error)


def launched(
    processes: int,
    module: str,
    arguments: Sequence[str],
    progress: Callable[[str, int, int], None],
    say: Callable[[str], None],
    *,
    tries: int = TRIES,
    lost: Callable[[str], ProcessLost] | None = None,
) -> None:
    """Runs `python -m MODULE ARGUMENTS` in so many processes, until they have all ended; again up to `tries` times.

    `lost` makes the error of what torchrun said when processes ended too often, by default that of a training.

    Raises:
        BadOption: fewer than one process.
        ProcessLost: processes ended again and again.
        WbError: what the first process told.
    """
    for _ in pieces(processes, module, arguments, progress, say, tries=tries, lost=lost):
        pass


def pieces(
    processes: int,
    module: str,
    arguments: Sequence[str],
    progress: Callable[[str, int, int], None],
    say: Callable[[str], None],
    *,
    tries: int = TRIES,
    lost: Callable[[str], ProcessLost] | None = None,
) -> Iterator[str]:
    """The same, with what the first process gives, piece by piece; who does not wait for the last one ends them. Raises alike."""
    if processes < 1:
        raise BadOption(f"{processes} processes cannot train; choose 1 or more")
    run = ["--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={processes}", f"--max-restarts={tries}"]
    command = [sys.executable, "-m", "torch.distributed.run", *run, "-m", module, *arguments]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, LAUNCHER: str(os.getpid())}
    with tempfile.TemporaryFile("w+", errors="replace") as messages:
        started = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=messages, text=True, env=environment, start_new_session=True
        )
        try:
            assert started.stdout is not None
            failed = yield from heard(started.stdout, progress, say)
            code = started.wait()
        finally:
            _end(started)
        messages.seek(0)
        error = _why(failed, code, messages.read(), lost or (lambda text: _untrained(processes, tries, text)))
        if error is not None:
            raise error


def _why(failed: WbError | None, code: int, text: str, lost: Callable[[str], ProcessLost]) -> WbError | None:
    """Why the processes ended, if not as they should: by what they told, or by what torchrun said.

    Whoever lost another process cannot know why that one ended, and may not have told it before it was ended too: torchrun
    knows, and is asked first where a signal ended one.
    """
    first = ended(text)
    if isinstance(failed, ProcessLost) and first is not None and first[1] < 0 and -first[1] != signal.SIGTERM:
        return lost(text)
    return failed if failed is not None or not code else lost(text)


def _untrained(processes: int, tries: int, text: str) -> ProcessLost:
    return ProcessLost(
        f"{processes} processes were to train together, and ended {tries + 1} times; the same command continues at the "
        f"last finished epoch. The last they said: {cause(text)}"
    )


def ended(text: str) -> tuple[int, int] | None:
    """The number and the exit code of the process that ended first, by what torchrun said; below zero is a signal.

    Those that torchrun itself ended then are not meant.
    """
    found = [(int(number), int(code)) for number, code in _ENDED.findall(text)]
    return next((one for one in found if one[1] < 0 and -one[1] != signal.SIGTERM), found[-1] if found else None)


def heard(
    lines: Iterable[str], progress: Callable[[str, int, int], None], say: Callable[[str], None]
) -> Generator[str, None, WbError | None]:
    """Passes on what is told, gives what is given, and returns the error if one is told: of several the first."""
    failed: WbError | None = None
    for line in lines:
        if not line.startswith(_MARK):
            continue
        content = json.loads(line.removeprefix(_MARK))
        if "progress" in content:
            progress(*content["progress"])
        if "say" in content:
            say(content["say"])
        if "give" in content:
            yield content["give"]
        if "failed" in content and (failed is None or isinstance(failed, ProcessLost)):
            failed = _error(*content["failed"])
    return failed


def _error(name: str, text: str) -> WbError:
    def below(kind: type[WbError]) -> Iterator[type[WbError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from below(one)

    return next((kind for kind in below(WbError) if kind.__name__ == name), WbError)(text)


def cause(text: str) -> str:
    """The last error that a process printed, without torchrun's own summary."""
    errors = [line.strip() for line in text.splitlines() if "Error" in line or "Signal" in line or "exitcode" in line]
    return " ".join(errors[-2:])[-_LAST:] or "nothing"


def _end(started: subprocess.Popen[str]) -> None:
    if started.poll() is None:
        started.send_signal(signal.SIGTERM)  # torchrun then ends its processes
        try:
            started.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
    if started.stdout is not None:
        started.stdout.close()


def _end_with(launcher: int) -> None:
    """Ends torchrun, and so all processes, when the process that waits for them is gone."""
    while True:
        time.sleep(_GLANCE_S)
        try:
            os.kill(launcher, 0)
        except ProcessLookupError:
            os.kill(os.getppid(), signal.SIGTERM)
            return
        except PermissionError:  # another user's: there is one
            pass
