"""Worker processes that evaluate candidates of a run beside this one (`wb search --workers`)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import Progress

from wb.search.beginning.config import SearchConfig
from wb.search.crew.joining import reason_of

PATIENCE_S = 2.0  # seconds that a worker gets to end after a signal
TOLD = 3  # number of signals: an interruption may get lost in a library that catches everything


class Helpers:
    """Starts `count` worker processes. They end with the block, and soon after this process if it dies.

    A worker's failure does not harm the run, because other workers take over its candidates. The user gets a note about every
    worker that ended early.
    """

    def __init__(
        self, config: SearchConfig, folder: Path, count: int, workers: int, say: Callable[[str], None]
    ) -> None:
        """`workers` is how many there are in all, on this machine or elsewhere."""
        context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch and the runtime
        self._say = say
        self._news: list[Connection] = []
        self._processes = []
        for _ in range(count):
            news, tell = context.Pipe(duplex=False)
            self._news.append(news)
            self._processes.append(context.Process(target=_help, args=(config, folder, workers, tell), daemon=True))

    def __enter__(self) -> None:
        # Workers ignore Ctrl-C, which a terminal sends to all processes: this process ends them, and says how to continue.
        here = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN) if here and self._processes else None
        try:
            for process in self._processes:
                process.start()
        finally:
            if before is not None:
                signal.signal(signal.SIGINT, before)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        early = [process.exitcode not in (None, 0) for process in self._processes]
        for end in (
            *([multiprocessing.process.BaseProcess.terminate] * TOLD),
            multiprocessing.process.BaseProcess.kill,
        ):
            alive = [process for process in self._processes if process.is_alive()]
            for process in alive:
                end(process)
            for process in alive:
                process.join(PATIENCE_S)
        for news, process, ended in zip(self._news, self._processes, early, strict=True):
            if ended and kind is None:
                cause = f"exit code {process.exitcode}"
                with suppress(EOFError, OSError):  # the worker sent no message
                    cause = news.recv() if news.poll() else cause
                self._say(f"a worker ended early ({cause}); the others did its part")
            news.close()


def _help(config: SearchConfig, folder: Path, workers: int, tell: Connection) -> None:
    """The main function of a worker; on a signal, or when its parent is gone, it leaves in the middle of an evaluation."""
    from wb.search.pipeline import Search
    from wb.search.run import Run

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    progress = Progress(console=Console(quiet=True), disable=True)
    try:
        Search(config, Run(folder), progress, workers).assist()
    except KeyboardInterrupt:
        os._exit(0)
    except Exception as error:  # the parent reports it in a line; a traceback would not help the user
        with suppress(OSError):
            tell.send(reason_of(error))
        os._exit(1)


def end_with_parent() -> None:
    """Ends this process when its parent is gone; for a thread of its own."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
