"""Writing so that a crash or a full disk leaves either the old file or the new one, never half of one; temporary folders."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from wb.core.errors import BadOption, StorageFailed

if TYPE_CHECKING:
    from filelock import BaseFileLock

LONG = 3600.0  # seconds in which any file that is being written is written to
SCRATCH = "wb-"  # what the names of temporary folders begin with
OWNED = ".in-use"  # the file in them that is locked for as long as their process lives


@contextmanager
def replacing(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    Raises:
        BadOption: `path` exists and `force` is false.
        StorageFailed: the disk is full or the folder cannot be written.
    """
    if path.exists() and not force:
        raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise StorageFailed(
            f"could not write {path}: {error.strerror or error}; free some space or choose another place with --out"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Removes what killed processes left half written beside `path`, long ago enough that no other is at it."""
    named = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for entry in os.scandir(path.parent):
        if named.fullmatch(entry.name):
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime > LONG:
                    os.unlink(entry)


def write_text(path: Path, text: str, *, force: bool = True) -> None:
    """Writes `text` as UTF-8, atomically. Raises as `replacing` does."""
    with replacing(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def place(source: Path, path: Path, *, force: bool) -> None:
    """Copies a finished file to where it was asked for, atomically; one that is there already with that content stays.

    Raises:
        BadOption: another file is there and `force` is false.
        StorageFailed: it could not be written.
    """
    if path.exists() and path.is_file() and path.read_bytes() == source.read_bytes():
        return
    with replacing(path, force=force) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, gone at the end. What killed processes left of theirs is removed when the first one is made.

    Raises:
        StorageFailed: there is no room for temporary files.
    """
    sweep(Path(tempfile.gettempdir()))
    try:
        folder, lock = _claimed()
    except OSError as error:
        raise StorageFailed(
            f"there is no room for temporary files ({error}); free some space, or say where there is some with TMPDIR=…"
        ) from error
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


@cache
def sweep(root: Path) -> None:
    """Removes the temporary folders in `root` whose processes are gone, once in a process.

    A process holds a lock in each of its folders, which the system releases however it ends. Only real folders of the same
    user that have such a lock are touched.
    """
    for folder in root.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            if _ours(folder):
                _remove_abandoned(folder)


def _claimed() -> tuple[Path, BaseFileLock]:
    from filelock import FileLock

    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH))
        lock = FileLock(folder / OWNED)
        lock.acquire()
        if (folder / OWNED).exists():
            return folder, lock
        lock.release()  # another process swept it away before it was locked


def _ours(folder: Path) -> bool:
    """Whether this is a folder of this user that `scratch` made; links are not followed."""
    found, lock = folder.lstat(), (folder / OWNED).lstat()
    return stat.S_ISDIR(found.st_mode) and stat.S_ISREG(lock.st_mode) and found.st_uid == lock.st_uid == os.getuid()


def _remove_abandoned(folder: Path) -> None:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / OWNED)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return  # its process lives
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
