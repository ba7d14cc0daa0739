"""The place of a bundle: whether it may be put there, the hashes of its files, and the finished folder in its place at once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from wb.core.errors import BadOption, StorageFailed

CARD, SUMS = "card.json", "SHA256SUMS"


def check_place(out: Path, force: bool) -> None:
    """Raises `BadOption` where a bundle cannot be put: in the place of anything but an older bundle with its own files only."""
    if out.is_symlink():
        raise BadOption(f"{out} is a link; name the folder itself")
    here = Path.cwd()
    if out.resolve() in (here, *here.parents):
        raise BadOption(f"{out} is the folder that you are in, or one above it; name another one")
    if out.is_dir() and any(out.iterdir()):
        more = _strangers(out)
        if more is None:
            raise BadOption(f"{out} exists and is no bundle, so that it is not replaced; choose another folder")
        if more:
            raise BadOption(
                f"{out} has files that are not of its bundle ({', '.join(more[:3])}); move them, or choose another folder"
            )
        if not force:
            raise BadOption(f"{out} exists already; choose another folder or say --force to replace it")
    elif (out.exists() and not out.is_dir()) or out.suffix in (".onnx", ".safetensors", ".pt"):
        raise BadOption(f"{out} is no folder, and a bundle is one; name a folder")


def _strangers(out: Path) -> list[str] | None:
    """What lies in a bundle and is not of it; None if it is no bundle."""
    try:
        lines = (out / SUMS).read_text(encoding="utf-8").splitlines()
        schema = json.loads((out / CARD).read_text(encoding="utf-8"))["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    own = {SUMS, *(line.partition("  ")[2] for line in lines)}
    return sorted(path.name for path in out.iterdir() if path.name not in own) if isinstance(schema, int) else None


def write_sums(made: Path) -> None:
    """The hashes of all files, as `sha256sum` writes them."""
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in sorted(made.iterdir())]
    (made / SUMS).write_text("".join(lines), encoding="utf-8")


def publish(made: Path, out: Path) -> None:
    """Moves the finished folder to `out`, in the place of an older bundle. Raises `StorageFailed`."""
    partial, old = (out.with_name(f".{out.name}.{what}") for what in ("partial", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
        shutil.copytree(made, partial)
        for path in partial.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:
        with suppress(OSError):
            if old.exists() and not out.exists():
                old.rename(out)
        raise StorageFailed(
            f"could not write {out}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        for left in (partial, old):
            shutil.rmtree(left, ignore_errors=True)
