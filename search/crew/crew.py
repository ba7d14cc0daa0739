"""The workers of a run: each living process holds a lock file of its own, and further locks guard exclusive work.

The operating system releases the locks of a process when it ends, however it ends; so a killed worker is noticed at once.
Limits: locks of other machines are visible only if the run folder and its locks are shared. For workers elsewhere, Optuna's
heartbeats decide. Workers that joined without the run folder (`wb.search.crew.joining`) have a folder of their own, and count
as elsewhere although they may be on the same machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TypeGuard
from uuid import uuid4

from filelock import FileLock, Timeout
from platformdirs import user_cache_dir

from wb.core.errors import StorageFailed, reason

FOLDER = ".locks"
JOINED = ".joined"  # a file in folders that stand in for a run's: what tells its workers from those of the run's own
WORKER = "worker-"
UNNAMED = timedelta(seconds=60)  # grace for a trial without a worker's name, which it normally gets within milliseconds
GLANCE_S = 0.3  # another process may hold a lock for a moment, to find out whether it is held


class Crew:
    """The processes that work on the run in `folder`. `name` is this process's; it is a worker while inside `join`."""

    def __init__(self, folder: Path, *, shared: bool = False) -> None:
        """`shared` is a run that workers elsewhere may join, whose locks are not seen in `folder`."""
        self.folder, self._run = folder / FOLDER, folder
        self._shared = shared or (folder / JOINED).exists()
        self.machine = socket.gethostname()
        with suppress(OSError):
            self.machine += "." + (folder / JOINED).read_text(encoding="ascii")
        self.name = f"{WORKER}{self.machine}-{os.getpid()}-{uuid4().hex[:8]}"
        self._own, self._sole, self._reclaiming, self._writing = (
            FileLock(self.folder / name) for name in (self.name, "sole", "reclaiming", "writing")
        )

    @contextmanager
    def join(self) -> Iterator[None]:
        """Makes this process one of the workers within the block."""
        with self._held(self._own):
            yield

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Lock for measuring latency: simultaneous measurements would disturb each other.

        Of a shared run it is one of the machine, as its workers here may have other folders.
        """
        with self._held(self._timing):
            yield

    @cached_property
    def _timing(self) -> FileLock:
        if not self._shared:
            return FileLock(self.folder / "timing")
        try:
            study = str(json.loads((self._run / "run.json").read_bytes())["study"])
            folder = Path(user_cache_dir("wb")) / "timing"
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageFailed(
                f"could not lock the clock of this machine ({error}); see that the user's cache can be written"
            ) from error
        return FileLock(folder / hashlib.sha256(study.encode()).hexdigest()[:16])

    @contextmanager
    def reclaiming(self) -> Iterator[None]:
        """Lock for putting back the trials of dead workers."""
        with self._held(self._reclaiming):
            yield

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock for files of the run that several processes add to."""
        with self._held(self._writing):
            yield

    @contextmanager
    def sole(self, waiting: Callable[[], None]) -> Iterator[None]:
        """Lock for work that only one process may do; `waiting` is called once if another process holds it."""
        with self._held(self._sole, waiting):
            yield

    def busy(self) -> bool:
        """Whether some process holds the lock `sole`. Writes nothing."""
        return _locked(self.folder / "sole")

    def others(self) -> list[str]:
        """The names of the other living workers. Writes nothing."""
        return [path.name for path in self._workers() if path.name != self.name and _locked(path)]

    def is_dead(self, worker: object, since: datetime | None) -> bool:
        """Whether the worker of a trial that began at `since` is known to be dead.

        A trial without a worker's name counts as lost if there are no other workers, or after `UNNAMED`. Whether there are others
        elsewhere nobody knows, so that one of a shared run gets that time.
        """
        if not _is_name(worker):
            alone = not self._shared and not self.others()
            return alone or since is None or datetime.now() - since > UNNAMED
        path = self.folder / worker
        if path.exists():
            return worker != self.name and not _locked(path)
        return not self.elsewhere(worker)

    def elsewhere(self, worker: object) -> bool:
        """Whether the worker of that name runs on another machine."""
        return _is_name(worker) and not worker.startswith(f"{WORKER}{self.machine}-")

    def disband(self, *, whole: bool) -> None:
        """Deletes the lock files of dead workers; with `whole`, when no run came of it, the whole folder of locks.

        The locks of exclusive work stay: deleting one while a process waits for it would break it.
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
            except FileNotFoundError as error:  # another process has just deleted the folder
                if last:
                    raise self._failed(error) from error
            except OSError as error:
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> StorageFailed:
        return StorageFailed(
            f"could not lock {self.folder.parent} ({reason(error)}); a run has to be where files can be written and locked"
        )


def mark_joined(folder: Path) -> None:
    """Makes `folder` one that stands in for a run's; another process may do so at the same time."""
    with suppress(FileExistsError), (folder / JOINED).open("x", encoding="ascii") as file:
        file.write(uuid4().hex[:8])


def told(worker: object) -> str:
    """A worker's machine and process, in words."""
    found = re.fullmatch(rf"{WORKER}(.+)-(\d+)-\w+", worker) if isinstance(worker, str) else None
    return "a process without a name" if found is None else f"process {found[2]} of {found[1]}"


def _is_name(worker: object) -> TypeGuard[str]:
    return isinstance(worker, str) and re.fullmatch(rf"{WORKER}[\w.-]+", worker) is not None


def _locked(path: Path) -> bool:
    """Whether some process holds the lock file; false if that cannot be found out."""
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
