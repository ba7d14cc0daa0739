"""Files: reading regular files only, writing atomically, and temporary folders."""

from __future__ import annotations

import errno
import math
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

from wb.core.errors import BadArtefact, BadOption, StorageFailed, printable

MAX_TEXT = 64 << 20  # bytes of a text file, at most
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def irregular(path: Path) -> str | None:
    """Why `path` is not a regular file ("is a named pipe"); None if it is one, or a link to one.

    Opening anything else may block for ever, so every reader calls this first.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return "leads to nothing" if path.is_symlink() else "does not exist"
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "is a symbolic link that leads back to itself" if loop else f"cannot be read ({error.strerror})"
    except ValueError:  # a zero byte in the name
        return "is no name of a file"
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "is no regular file")


def is_there(name: str) -> bool:
    """Whether something has this path; False for what can be no path."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


def regular(path: Path, expected: str) -> Path:
    """Returns `path` if it is, or links to, a regular file. `expected` completes the error: "expected a model file".

    Raises:
        BadArtefact: `path` does not exist, or is a folder, a pipe, a socket, a device or a broken link.
    """
    why = irregular(path)
    if why == "does not exist":
        raise BadArtefact(f"there is no file {path}; expected {expected}")
    if why is not None:
        raise BadArtefact(f"{path} {why}; expected {expected}")
    return path


def read_text(path: Path, expected: str) -> str:
    """The content of a text file.

    Raises:
        BadArtefact: the file is not regular, has more than `MAX_TEXT` bytes, cannot be read, or is not UTF-8.
    """
    size = regular(path, expected).stat().st_size
    if size > MAX_TEXT:
        raise BadArtefact(
            f"{path} has {size:,} bytes, and at most {MAX_TEXT:,} are read of such a file; expected {expected}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadArtefact(f"{path} cannot be read ({error}); expected {expected}") from error


def absolute(path: Path | str) -> Path:
    """`path` without `~`, `..` and links, whether or not anything is there.

    Raises:
        BadOption: the user after `~` is unknown, or a link leads to itself.
    """
    try:
        return Path(path).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        why = of_path(error) or f"it is no path ({printable(str(error))}); check it with ls"
        raise BadOption(f"{path}: {why}") from error


def of_path(error: BaseException) -> str | None:
    """Explains an error of resolving a path (`pathlib` raises plain RuntimeErrors); None for other errors."""
    if not isinstance(error, RuntimeError | OSError):
        return None
    text = str(error)
    if "home directory" in text:
        return (
            "a path begins with ~ and the name of a user that does not exist; write the whole path, or ~/… for your own"
        )
    if "Symlink loop" in text or "Too many levels of symbolic links" in text:
        where = text.partition("from ")[2] or text
        return f"a symbolic link leads back to itself: {where}; remove it, or give the path of the file itself"
    return None


if TYPE_CHECKING:
    from filelock import BaseFileLock

LONG = 3600.0  # seconds; a temporary file that was not written to for so long is abandoned
SCRATCH = "wb-"  # prefix of temporary folders
OWNED = ".in-use"  # lock file in a temporary folder, held as long as its process lives


@contextmanager
def replacing(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    A crash or a full disk leaves the old file or the new one, never half of one.

    Raises:
        BadOption: `path` exists and `force` is false.
        StorageFailed: the disk is full or the folder cannot be written.
    """
    if path.exists() and not force:
        raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear(path, LONG)
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


def clear(path: Path, older: float = -math.inf) -> None:
    """Removes temporary files that killed processes left beside `path`: all, or those `older` than so many seconds.

    All of them only where no other process may be writing the file.
    """
    if not path.parent.is_dir():
        return
    named = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(path.suffix)}")
    for entry in os.scandir(path.parent):
        if named.fullmatch(entry.name):
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and time.time() - entry.stat().st_mtime >= older:
                    os.unlink(entry)


def write_text(path: Path, text: str, *, force: bool = True) -> None:
    """Writes `text` as UTF-8, atomically. Raises as `replacing` does."""
    with replacing(path, force=force) as temporary:
        temporary.write_text(text, encoding="utf-8")


def place(source: Path, path: Path, *, force: bool) -> None:
    """Copies the finished file `source` to `path`, atomically; does nothing if `path` has the same content already.

    Raises:
        BadOption: `path` exists with other content, and `force` is false.
        StorageFailed: `path` could not be written.
    """
    if path.exists() and path.is_file() and path.read_bytes() == source.read_bytes():
        return
    with replacing(path, force=force) as temporary:
        shutil.copyfile(source, temporary)


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder, deleted at the end of the block. The first call also deletes those that killed processes left.

    Raises:
        StorageFailed: the temporary folder cannot be created.
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
    """Deletes the temporary folders in `root` whose processes have ended; done once per process.

    A process holds a lock in each of its folders, which the system releases however the process ends. Only real folders of
    the same user that contain such a lock are deleted.
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
        lock.release()  # another process deleted the folder before it was locked


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
        return  # its process is alive
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
