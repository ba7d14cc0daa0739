"""Running a script where only some libraries can be imported, to see that it needs no others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

from wb.core.errors import Unsupported, WbError

SECONDS = 300.0  # that a script may take


class BundleDiffers(WbError, ArithmeticError):
    """What is in the bundle does not give the scores that it should."""


def try_apart(script: Sequence[str], folder: Path, libraries: Sequence[str], site: Path) -> None:
    """Runs a check of the bundle in `folder` as `run_apart` does. Raises `BundleDiffers` where it fails, and as `run_apart`."""
    try:
        done = run_apart(script, folder, libraries, site)
    except subprocess.TimeoutExpired as error:
        raise BundleDiffers(f"the bundle's check took longer than {error.timeout:g} s and was ended") from error
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise BundleDiffers(
            f"the bundle's check fails where only {', '.join(libraries)} can be imported: {said[-1] if said else 'no output'}"
        )


def run_apart(
    script: Sequence[str], folder: Path, libraries: Iterable[str], site: Path
) -> subprocess.CompletedProcess[str]:
    """Runs Python with the arguments `script` in `folder`, where of all that is installed only `libraries` can be imported.

    `site` is an empty folder for links to these and what they require. `wb` and its environment are out of reach: Python
    starts without site-packages.

    Raises:
        Unsupported: a library is not installed, or the file system has no links.
    """
    for top in tops(libraries):
        try:
            (site / top.name).symlink_to(top)
        except OSError as error:
            raise Unsupported(f"the bundle cannot be tried out on its own: no link to {top} ({error})") from error
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG", "SYSTEMROOT") if name in os.environ}
    environment = kept | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-S", "-s", *script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def tops(libraries: Iterable[str]) -> list[Path]:
    """What lies at the top of site-packages of these importable `libraries` and of all that they require."""
    owners = packages_distributions()
    todo = [name for library in libraries for name in owners.get(library, [library])]
    seen: dict[str, Distribution] = {}
    while todo:
        name = _canonical(todo.pop())
        if name in seen:
            continue
        try:
            seen[name] = distribution(name)
        except PackageNotFoundError as error:
            raise Unsupported(f"{name} is not installed, and the bundle's scripts need it") from error
        todo += [one.name for text in seen[name].requires or () if _wanted(one := Requirement(text))]
    found = {
        Path(str(found.locate_file(file.parts[0])))
        for found in seen.values()
        for file in found.files or ()
        if file.parts[0] not in ("..", "__pycache__")
    }
    return sorted(path for path in found if path.exists())


def _wanted(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
