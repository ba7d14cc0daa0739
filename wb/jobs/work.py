"""The folder of a job that is under way: beside the output, and locked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from wb.core.errors import BadOption

LOCK = "lock"


def work_of(out: Path) -> Path:
    """The folder of what is done for the model file `out`."""
    return out.with_name(f"{out.stem}.partial")


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
