"""What a graph takes on its device beside time: memory, and how long loading it takes; each in a process of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, model_validator

from wb.core.errors import BadArtefact, Unsupported
from wb.core.measures.readings import Reading
from wb.export.timing.bench import bench_of
from wb.hardware.device import Device
from wb.hardware.remote import footprint as script
from wb.hardware.runtimes.known import WEB
from wb.hardware.runtimes.web import web_session

PROCESSES = 3
METRICS_OF = {"memory": "memory", "load": "load cold"}  # metric -> name of its reading
LONG_S = 5.0  # of loading, from which on one process has to do

Seconds = Annotated[float, Field(gt=0, le=1e6)]
Bytes = Annotated[int, Field(gt=0, le=1 << 50)]


class Footprint(NamedTuple):
    """Readings by name: `memory`, `load cold`, `load warm`, `first run`; and why those that are missing are."""

    readings: dict[str, Reading]
    missing: dict[str, str]


def footprint(
    graph: Path,
    device: Device,
    *,
    batch: int = 1,
    seed: int = 0,
    tokens: int | None = None,
    processes: int | None = None,
) -> Footprint:
    """Measures a graph in so many processes (`PROCESSES`), one after the other: medians, and what they range over as a note.

    Memory is the most that the process had until the graph had run six times, without what it had before the graph was loaded
    (Python or node, the runtime, which has run a smallest graph, and the inputs). Loading is cold where the kernel was told to
    forget the file, and warm when it is loaded once more in the same process.

    Raises:
        BadArtefact: as `bench_of`, or the graph fails in a process of its own.
        DeviceLost: a device elsewhere does not answer.

    Limits: where the kernel does not say memory, or forgets no files (other systems than Linux), those readings are missing.
        A file system in memory has nothing to read anew.
    """
    bench = bench_of({graph.name: graph}, device, batch, seed, tokens)
    text = Path(script.__file__).read_text(encoding="utf-8")
    if device.runtime == WEB:
        session = Path(web_session.__file__).read_text(encoding="utf-8")
        text = text.replace('SESSION = ""\n', f"SESSION = {session!r}\n")
    found: list[_Said] = []
    while len(found) < (processes or PROCESSES) and (not found or found[0].warm_s < LONG_S):
        found.append(_read(bench.apart(graph.name, text), device))
    readings, missing = {}, {}
    memory = [one.bytes.whole - one.bytes.before for one in found if one.bytes is not None]
    if len(memory) == len(found):
        readings["memory"] = _reading(memory, "B", device, lambda value: f"{value / 1e6:.4g}")
    else:
        missing["memory"] = f"{device.text} does not say how much memory a process has"
    cold = [one.cold_s for one in found if one.cold_s is not None]
    if len(cold) == len(found):
        readings["load cold"] = _reading([1000 * one for one in cold], "ms", device)
    else:
        missing["load cold"] = f"{device.text} cannot be told to read a file anew"
    readings["load warm"] = _reading([1000 * one.warm_s for one in found], "ms", device)
    readings["first run"] = _reading([1000 * one.first_run_s for one in found], "ms", device)
    return Footprint(readings, missing)


def costs_of(
    graph: Path, device: Device, names: Collection[str], *, processes: int | None = None
) -> dict[str, Reading]:
    """The readings of metrics `memory` and `load` (cold), those of `names`.

    Raises:
        Unsupported: the device does not say one of them; and as `footprint`.
    """
    wanted = {name: METRICS_OF[name] for name in names if name in METRICS_OF}
    if not wanted:
        return {}
    found = footprint(graph, device, processes=processes)
    for metric, name in wanted.items():
        if name not in found.readings:
            raise Unsupported(f"{found.missing[name]}; leave {metric} out of objectives, budgets and requirements")
    return {metric: found.readings[name] for metric, name in wanted.items()}


class _Bytes(BaseModel):
    before: Bytes
    whole: Bytes

    @model_validator(mode="after")
    def _grows(self) -> _Bytes:
        if self.whole < self.before:
            raise ValueError("less at most than before")
        return self


class _Said(BaseModel):
    cold_s: Seconds | None
    warm_s: Seconds
    first_run_s: Seconds
    bytes: _Bytes | None


def _read(said: str, device: Device) -> _Said:
    try:
        return _Said.model_validate(json.loads(said))
    except (ValueError, RecursionError) as error:
        raise BadArtefact(f"{device.text} says of a graph's memory what cannot be read: {said[:80]!r}") from error


def _reading(
    values: Sequence[float], unit: str, device: Device, shown: Callable[[float], str] = "{:.3g}".format
) -> Reading:
    """The median of the processes; how far they are apart is its note."""
    unit_shown = "MB" if unit == "B" else unit
    several = len(values) > 1 and not math.isclose(min(values), max(values))
    apart = f"; from {shown(min(values))} to {shown(max(values))} {unit_shown}" if several else ""
    count = f"{len(values)} processes" if len(values) > 1 else "one process"
    return Reading(
        value=median(values), unit=unit, how="measured", n=len(values), device=device.text, note=f"{count}{apart}"
    )
