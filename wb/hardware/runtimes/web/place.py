"""Where ONNX Runtime Web is on this machine: a folder of its own, as nothing of npm belongs among packages of Python."""

from __future__ import annotations

import os
import shlex
import shutil
from functools import cache
from pathlib import Path

from platformdirs import user_data_dir

from wb.core.errors import MissingExtra, printable
from wb.hardware.runtimes.web.web_session import NODE, PACKAGE, VARIABLE, place_of, versions

RELEASE = "1.30.0"  # that was tried


def folder() -> Path:
    """The folder, whether or not there is one."""
    return Path(place_of("") or Path(user_data_dir("wb")) / "web")


def there() -> bool:
    """Whether node and the package are there."""
    return shutil.which(NODE) is not None and (folder() / "node_modules" / PACKAGE / "package.json").is_file()


def how() -> str:
    """What is missing, and the commands that bring it."""
    if shutil.which(NODE) is None:
        return f"there is no {NODE} on the path; install it (apt install nodejs npm, or nodejs.org), then {commands(folder())}"
    why = (
        f"{VARIABLE} names {printable(str(folder()))}, and there"
        if os.environ.get(VARIABLE)
        else f"in {folder()} there"
    )
    return (
        f"{why} is no package {PACKAGE}; run: {commands(folder())}, or name the folder of one: export {VARIABLE}=FOLDER"
    )


def commands(where: Path | str) -> str:
    """The commands that make such a folder (150 MB)."""
    named = shlex.quote(str(where))
    return f"mkdir -p {named} && npm install --prefix {named} {PACKAGE}@{RELEASE}"


def version() -> str:
    """The versions of the package and of node. Raises `MissingExtra` without them."""
    return _version(folder(), shutil.which(NODE))


@cache
def _version(where: Path, _: str | None) -> str:
    try:
        return printable(versions(str(where)), 60)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingExtra(f"ONNX Runtime Web does not say its version ({printable(str(error))}); {how()}") from error
