"""Writing so that a crash or a full disk leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wb.core.errors import BadOption, StorageFailed


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
