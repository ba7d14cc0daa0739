"""The environment of its own that LiteRT has: where it is, how it is made, and programs that run in it.

Its converter wants other versions of libraries than `wb`, and brings TensorFlow; so nothing of it is ever imported here.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from platformdirs import user_data_dir

from wb.core.errors import BadArtefact, MissingExtra, printable

VARIABLE = "WB_LITERT"  # names the Python of the environment
# The converter's own pins are of older versions of the second line, which it runs with all the same.
CONVERTER = ("onnx2tf==1.29.24", "absl-py", "immutabledict", "scipy")
RUNTIME = ("ai-edge-litert==2.3.0", "ai-edge-quantizer==0.10.0")
NEEDED = ("onnx2tf", "ai-edge-litert", "ai-edge-quantizer", "onnxruntime")
PAUSE_S = 0.2
LAST = 3  # lines of a program that failed
_VERSIONS = """
import json
from importlib.metadata import distributions
print(json.dumps([(one.metadata["Name"], one.version) for one in distributions()]))
"""


def litert_python() -> str:
    """The path of the environment's Python. Raises `MissingExtra`, with how it is made, where there is none."""
    named = os.environ.get(VARIABLE)
    # It is run in other folders; and a link is not followed, as it would lead out of the environment.
    python = (Path(named).expanduser() if named else _usual() / "bin" / "python").absolute()
    if not (python.is_file() and os.access(python, os.X_OK)):
        where = f"{VARIABLE} names {printable(str(python))}, which is no Python" if named else "there is none yet"
        raise MissingExtra(f"LiteRT needs an environment of its own, and {where}; {how()}")
    return str(python)


def how() -> str:
    """The commands that make the environment."""
    import onnxruntime  # has the name of its package, or that of one for graphics cards

    folder, ours = _usual(), f"onnxruntime=={onnxruntime.__version__}"  # the reference graph is to be timed alike
    venv, pip = shlex.quote(str(folder)), f"{shlex.quote(str(folder / 'bin' / 'pip'))} install"
    return (
        f"make it (2.7 GB, a minute or two; Python 3.11 or 3.12): python3.11 -m venv {venv} && {pip} {' '.join(CONVERTER)} && "
        f"{pip} --no-deps {' '.join(RUNTIME)} {ours}; or name the Python of one elsewhere: export {VARIABLE}=/path/to/bin/python"
    )


def versions() -> Mapping[str, str]:
    """Name -> version of all that is installed in the environment. Raises `MissingExtra` where something that it needs is not."""
    return _versions(litert_python())


@cache
def _versions(python: str) -> Mapping[str, str]:
    try:
        argv = [python, "-c", _VERSIONS]
        done = subprocess.run(
            argv, env=clean(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True
        )
        found: dict[str, str] = {}
        for name, one in json.loads(done.stdout):  # in the order of its path, the first of a name is imported
            found.setdefault(re.sub(r"[-_.]+", "-", str(name)).lower(), printable(str(one), 40))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise MissingExtra(
            f"{python} does not say which libraries it has ({printable(str(error))}); {how()}"
        ) from error
    lacking = [name for name in NEEDED if name not in found]
    if lacking:
        raise MissingExtra(f"LiteRT's environment, of {python}, lacks {', '.join(lacking)}; {how()}")
    return found


def run_there(arguments: Sequence[str], folder: Path, seconds: float, what: str) -> str:
    """What the environment's Python says, run with `arguments` in `folder`, where it is kept too. `what` names it in messages.

    Raises:
        BadArtefact: it fails, with its last lines, or takes longer than `seconds`; nothing of it runs on.
        MissingExtra: there is no such Python, or it does not start.
    """
    python = litert_python()
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    said = folder / "said.txt"
    with said.open("wb") as file:
        try:
            process = subprocess.Popen(
                [python, *arguments],
                cwd=folder,
                env=clean() | quiet,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that all that it starts can be ended
            )
        except OSError as error:
            raise MissingExtra(f"{python} does not start ({error.strerror or error}); {how()}") from error
        try:
            start = time.monotonic()
            while process.poll() is None and time.monotonic() - start < seconds:
                time.sleep(PAUSE_S)
        finally:
            over = process.poll() is None
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    text = said.read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.splitlines() if line.strip()][-LAST:]
    last = "; ".join(printable(line.strip()) for line in lines) or "no output"
    if over:
        raise BadArtefact(f"{what} took longer than {seconds:g} s and was ended; it said last: {last}")
    if process.returncode:
        raise BadArtefact(f"{what} failed: {last}")
    return text


def clean() -> dict[str, str]:
    """The environment variables for a Python that imports its own packages: without those of this one, nor the user's."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return others | {"PYTHONNOUSERSITE": "1"}  # also for what it starts in its turn


def _usual() -> Path:
    return Path(user_data_dir("wb")) / "litert"
