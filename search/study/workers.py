"""Who is at work on a run: every process holds a lock file of its own while it lives, and one lock guards what only one may do.

The operating system takes a lock away from a process that ends, however it ends; so a worker that was killed is known at once.
Limits: a worker on another machine is seen only where the run folder is shared with its locks; there Optuna's heartbeats tell.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeGuard
from uuid import uuid4

from filelock import FileLock, Timeout

from wb.core.errors import StorageFailed, reason

FOLDER = ".locks"
WORKER = "worker-"
UNNAMED = timedelta(seconds=60)  # a trial gets its worker's name milliseconds after it began
GLANCE_S = 0.3  # somebody may just be looking whether a lock is held


class Crew:
    """The processes that work on the run in `folder`; `name` is this one's, which is among them while it has joined."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.name = f"{WORKER}{socket.gethostname()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._own, self._sole, self._timing, self._reclaiming = (
            FileLock(self.folder / name) for name in (self.name, "sole", "timing", "reclaiming")
        )

    @contextmanager
    def join(self) -> Iterator[None]:
        """This process is one of the workers meanwhile."""
        with self._held(self._own):
            yield

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Nobody else measures a latency meanwhile: two at a time would measure each other."""
        with self._held(self._timing):
            yield

    @contextmanager
    def reclaiming(self) -> Iterator[None]:
        """Nobody else takes up what dead workers left meanwhile."""
        with self._held(self._reclaiming):
            yield

    @contextmanager
    def sole(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Nobody else is here meanwhile; `waiting` is called once where somebody is, before waiting for them."""
        with self._held(self._sole, waiting):
            yield

    def busy(self) -> bool:
        """Whether somebody does what only one may do. Writes nothing."""
        return _locked(self.folder / "sole")

    def others(self) -> list[str]:
        """The names of the other workers that live. Writes nothing."""
        return [path.name for path in self._workers() if path.name != self.name and _locked(path)]

    def gone(self, worker: object, since: datetime | None) -> bool:
        """Whether the worker of that name, who began at `since`, is known to live no more."""
        if not _is_name(worker):
            return not self.others() or since is None or datetime.now() - since > UNNAMED
        path = self.folder / worker
        if path.exists():
            return worker != self.name and not _locked(path)
        return not self.elsewhere(worker)

    def elsewhere(self, worker: object) -> bool:
        """Whether the worker of that name is one of another machine."""
        return _is_name(worker) and not worker.startswith(f"{WORKER}{socket.gethostname()}-")

    def disband(self, *, whole: bool) -> None:
        """Takes the lock files of workers away that live no more; with `whole`, where there is no run after all, the folder.

        The other locks stay: one that is taken away while somebody waits for it is a lock no more.
        """
        for path in self._workers():
            if not _locked(path):
                path.unlink(missing_ok=True)
        if whole:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _workers(self) -> list[Path]:
        return sorted(self.folder.glob(f"{WORKER}*")) if self.folder.is_dir() else []

    @contextmanager
    def _held(self, lock: FileLock, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        try:
            self._acquire(lock, GLANCE_S)
        except Timeout:
            if waiting is not None:
                waiting()
            self._acquire(lock, -1)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.release()

    def _acquire(self, lock: FileLock, timeout: float) -> None:
        for last in (False, False, True):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=timeout)
                return
            except Timeout:
                raise
            except FileNotFoundError as error:  # another process has just taken the empty folder away
                if last:
                    raise self._failed(error) from error
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageFailed:
        return StorageFailed(
            f"could not lock {self.folder.parent} ({reason(error)}); a run has to be where files can be written and locked"
        )


def _is_name(worker: object) -> TypeGuard[str]:
    return isinstance(worker, str) and re.fullmatch(rf"{WORKER}[\w.-]+", worker) is not None


def _locked(path: Path) -> bool:
    """Whether some process holds the lock; false where that cannot be found out."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
