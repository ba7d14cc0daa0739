"""Trying out an untrusted ONNX file in a separate process: whether it loads and runs, within limits of time and memory.

The process protects this one: the compiled code of ONNX and the runtime crashes on some damaged graphs, loading computes
constants, and a loop may run for ever. A file that passes is loaded again in this process. A trial costs 0.4 s and one
loading; our own exports need none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from wb.core import errors
from wb.core.errors import BadArtefact, Unsupported, WbError
from wb.core.measures.readings import Reading
from wb.export.foreign.opening import open_graph
from wb.hardware.device import Device
from wb.hardware.runtimes.failures import said

LIMIT_S = 30.0
SHARE = 0.8  # of the free memory that a trial may use
GIB = 2**30
EXHAUSTED = ("allocate memory", "bad_alloc", "MemoryError", "Cannot allocate")


class Trial(BaseModel):
    """The result of a trial: the counts of the graph, and why some are missing (`wb.export.counting.graph.Counts`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    readings: dict[str, Reading]
    missing: dict[str, str]


def try_out(
    path: Path, device: Device, batch: int = 1, seed: int = 0, limit_s: float = LIMIT_S, tokens: int | None = None
) -> Trial:
    """Loads the graph, counts it, and runs it once on inputs of `wb.hardware.device.example_inputs`, in another process.

    Raises:
        BadArtefact: the file is not an ONNX graph (`open_graph`), does not load or run, crashes the process, or takes more
            than `limit_s` seconds or `SHARE` of the free memory.
        Unsupported: no inputs can be made for the graph, or the process does not start.
    """
    open_graph(path)  # finds most faults at once
    free = free_memory() if device.name == "cpu" else None  # other devices reserve addresses without memory
    memory = None if free is None else int(SHARE * free)
    order = {
        "path": str(path),
        "device": device.model_dump(mode="json"),
        "batch": batch,
        "seed": seed,
        "tokens": tokens,
        "memory": memory,
    }
    answer = _ask(json.dumps(order), limit_s, path, memory)
    if "error" in answer:
        kind, text = answer["error"]
        if any(word in text for word in EXHAUSTED) and memory is not None:
            raise BadArtefact(_exhausted(path, memory))
        known = getattr(errors, kind, None)
        if known is None:
            raise BadArtefact(
                f"{path} is damaged, or is of a kind that cannot be read ({kind}: {text}); export it again"
            )
        raise known(text)
    return Trial.model_validate(answer)


def free_memory() -> int | None:
    """Bytes of memory that are still free on the machine and in the process's control group; None if unknown."""
    found = []
    with suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    with suppress(OSError, ValueError, StopIteration):
        group = Path("/sys/fs/cgroup")
        most, used = ((group / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        cached = next(
            line for line in (group / "memory.stat").read_text().splitlines() if line.startswith("inactive_file ")
        )
        found.append(int(most) - int(used) + int(cached.split()[1]))
    return min(found, default=None)


def _ask(order: str, limit_s: float, path: Path, memory: int | None) -> dict[str, Any]:
    """Starts the other process, sends it `order`, and returns its answer."""
    # -P: nothing is imported from the working directory.
    command = [sys.executable, "-P", "-m", "wb.export.foreign.trial"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    try:
        done = subprocess.run(
            command,
            input=order.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=limit_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadArtefact(
            f"{path} took more than {limit_s:g} s to load and to run once, and was stopped; raise the limit with --run-limit "
            "if it is that slow, or give a smaller graph"
        ) from error
    with suppress(ValueError):
        answer = json.loads(done.stdout)
        if isinstance(answer, dict):
            return answer
    if done.returncode == 1:
        raise Unsupported(
            f"the process that {path} is tried out in could not start; perhaps for want of memory or addresses (`ulimit -v`)"
        )
    if memory is not None and done.returncode in (-9, 137):  # killed by the system for want of memory
        raise BadArtefact(_exhausted(path, memory))
    raise BadArtefact(
        f"{path} ends the process that loads it (exit code {done.returncode}): it is damaged in a way that neither ONNX nor "
        "the runtime expects; export it again"
    )


def _exhausted(path: Path, memory: int) -> str:
    return (
        f"{path} asks for more than {memory / GIB:.1f} GiB of memory, {100 * SHARE:.0f} % of what is free here; "
        "give a smaller graph, or a machine with more"
    )


# ---------------------------------------------------------------------------------------------------- the other process


def main() -> None:
    """The other process: reads an order from stdin and answers on stdout."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print to stdout
    order = json.loads(sys.stdin.buffer.read())
    _load_libraries()
    answers.write(json.dumps(_answer(order)))
    answers.flush()
    os._exit(0)  # skips destructors, which may crash after a damaged graph


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    try:
        _bound(order["memory"])
        return _tried(order)
    except WbError as error:
        return {"error": [type(error).__name__, str(error)]}
    except Exception as error:  # libraries on damaged files raise anything; `try_out` words the message
        return {"error": [type(error).__name__, said(error)]}


def _load_libraries() -> None:
    """Imports libraries before the memory is limited, so that the limit is for the graph alone."""
    import onnxruntime  # noqa: F401

    import wb.export.counting.graph  # noqa: F401


def _bound(memory: int | None) -> None:
    """Limits the process to `memory` more bytes from here on; None sets no limit."""
    if memory is None:
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _tried(order: dict[str, Any]) -> dict[str, Any]:
    from wb.export.counting.graph import count_graph
    from wb.hardware.device import example_inputs, session

    path, device = Path(order["path"]), Device.model_validate(order["device"])
    loaded = session(path, device)
    inputs = example_inputs(loaded, order["batch"], order["seed"], order["tokens"])
    try:
        loaded.run(None, inputs)
    except Exception as error:  # the runtime's exceptions have no common base class
        shapes = {name: list(value.shape) for name, value in inputs.items()}
        raise BadArtefact(f"{path} loads but fails on inputs {shapes}; export it again ({said(error)})") from error
    counts = count_graph(path, order["batch"])
    return Trial(readings=dict(counts.readings), missing=dict(counts.missing)).model_dump(mode="json")


if __name__ == "__main__":
    main()
