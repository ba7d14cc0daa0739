"""Reading regular files only, and writing so that a crash or a full disk leaves the old file or the new one, never half."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wb.core.errors import BadArtefact, BadOption, StorageFailed, printable

MAX_TEXT = 64 << 20  # bytes of a text file that is read whole
_KINDS = {
    stat.S_IFDIR: "is a folder",
    stat.S_IFIFO: "is a named pipe",
    stat.S_IFSOCK: "is a socket",
    stat.S_IFCHR: "is a device",
    stat.S_IFBLK: "is a device",
}


def irregular(path: Path) -> str | None:
    """Why `path` cannot be read as a file ("is a named pipe"); None where it is, or leads to, a regular one.

    Opening anything else may wait for ever, so that every reader asks this first.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return "leads to nothing" if path.is_symlink() else "does not exist"
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "is a symbolic link that leads to itself" if loop else f"cannot be read ({error.strerror})"
    except ValueError:  # a zero byte in the name
        return "is no name of a file"
    return None if kind == stat.S_IFREG else _KINDS.get(kind, "is no regular file")


def regular(path: Path, expected: str) -> Path:
    """`path` itself, if it is or leads to a regular file; `expected` says in the error what should have been given.

    Raises:
        BadArtefact: there is nothing, or a folder, a pipe, a socket, a device or a link that leads nowhere.
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
        BadArtefact: no regular file, more than `MAX_TEXT` bytes, unreadable, or not UTF-8.
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
        loop = "loop" in str(error).lower()
        why = "is a symbolic link that leads to itself" if loop else f"is no path ({printable(str(error))})"
        raise BadOption(f"{path} {why}; write it out, or check it with ls") from error


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
