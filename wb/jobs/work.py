"""The folder of a job that is under way: beside the output, and locked."""

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
    """The folder of what is done for the file `out`."""
    return out.with_name(f"{out.stem}.partial")


def opened(work: Path) -> Callable[[], None]:
    """Makes the folder; gives what takes it away again, with the folders that were made for it."""
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
    """Takes the folder away, in one step as far as others can see."""
    done = work.with_name(f".{work.name}-{os.getpid()}")
    work.rename(done)
    shutil.rmtree(done, ignore_errors=True)


@contextmanager
def locked(work: Path) -> Iterator[None]:
    """Nobody else works in this folder meanwhile. Raises `BadOption` where somebody does."""
    lock = FileLock(work / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BadOption(f"another process is at work in {work}; wait for it, or choose another --out") from error
    try:
        yield
    finally:
        lock.release()
