"""The folder of a running job: beside the output, and locked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from wb.core.errors import BadOption

LOCK = "lock"
RECORD = "record.json"


def work_of(out: Path) -> Path:
    """The folder of unfinished work for the output `out`."""
    return out.with_name(f"{out.stem}.partial")


def opened(work: Path) -> Callable[[], None]:
    """Makes the folder; returns a function that removes it again, with the parent folders that were made for it."""
    out = work.parent
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    work.mkdir(parents=True, exist_ok=True)

    def abandon() -> None:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()

    return abandon


def retire(work: Path) -> None:
    """Removes the folder; it disappears in one step for other processes."""
    done = work.with_name(f".{work.name}-{os.getpid()}")
    work.rename(done)
    shutil.rmtree(done, ignore_errors=True)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Locks the folder for this process. Raises `BadOption` if another process has it."""
    lock = FileLock(work / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadOption(f"another process is at work in {work}; wait for it, or choose another --out") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def resumable(made: Path, how: str) -> Iterator[None]:
    """If the block ends early and the file or folder `made` exists, the error's last note says `how` to continue."""
    try:
        yield
    except BaseException as error:
        if made.exists():
            error.add_note(how)
        raise
