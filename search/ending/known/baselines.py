"""Known networks of the space that are trained and measured beside the finalists: those of latencies like theirs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.core.system.files import write_text
from wb.data import Split
from wb.export.graph import export
from wb.export.timing.runs import LATENCY, measure_runs
from wb.hardware.device import Device
from wb.search.run import Run
from wb.search.supernet import Supernet
from wb.spaces.base import NetworkSpace

MOST = 3  # networks
WITHIN = 2.0  # times the latencies of the finalists, which a known network is comparable up to
PRECISION = 0.1  # of latencies that networks are chosen by; those of the page are measured together with the finalists'


def check_baselines(space: NetworkSpace) -> None:
    """Raises `BadOption` if the space has no known network."""
    if not space.known:
        raise BadOption(
            f"--baselines: space {space.name!r} with these options has no known network (in space hybrid `wb spaces` names those "
            "of a preset; in space vit they have softmax attention); choose another preset, or search without"
        )


@dataclass(frozen=True)
class Comparable:
    """Chooses the known networks of a run, once: the choice is kept in its folder. The lock `alone` is held during timing."""

    run: Run
    supernet: Supernet
    space: NetworkSpace
    train: Split
    device: Device
    pace: Reading
    seed: int
    alone: Callable[[], AbstractContextManager[None]]

    def __call__(self, finalists: Sequence[Mapping[str, Reading]]) -> dict[str, Architecture]:
        """The networks by name; `finalists` are what the search read of them."""
        known, path = self.space.known, self.run.beside / "chosen.json"
        with suppress(
            OSError, ValueError, KeyError, TypeError
        ):  # not chosen yet, or a damaged choice, which is made again
            kept = {name: known[name] for name in json.loads(path.read_text(encoding="utf-8"))}
            if kept:
                return kept
        self.run.beside.mkdir(exist_ok=True)
        latencies = [readings["latency"].value for readings in finalists if "latency" in readings]
        # Where the search reads no latency, the first ones are as good as others.
        names = comparable(self._measured(known), latencies) if latencies else list(known)[:MOST]
        write_text(path, json.dumps(names) + "\n")
        return {name: known[name] for name in names}

    def _measured(self, known: Mapping[str, Architecture]) -> dict[str, float]:
        """The latencies of the known networks with the supernet's weights, in milliseconds."""
        paths: dict[str, Path | bytes] = {}
        for name, architecture in known.items():
            path = self.run.beside / f"{name}.onnx"
            export(self.supernet.extract(architecture, self.train), path, force=True)
            paths[name] = path
        with self.alone():
            timed = measure_runs(
                paths,
                self.device,
                continues=any(architecture.causal for architecture in known.values()),
                precision=PRECISION,
                cap_s=1.0 * len(paths),
                seed=self.seed,
                pace=self.pace,
            )
        for path in self.run.beside.glob("*.onnx"):
            path.unlink()
        return {name: one[LATENCY].reading.value for name, one in timed.items()}


def comparable(latencies: Mapping[str, float], finalists: Sequence[float]) -> list[str]:
    """The names of at most `MOST` networks: nearest to the fastest, the middle and the slowest finalist, the fastest first.

    Those more than `WITHIN` times faster or slower than all finalists are left out, unless all are: then the nearest stays.
    """
    low, high = math.log(min(finalists)), math.log(max(finalists))
    places = {name: math.log(value) for name, value in latencies.items()}
    beyond = {name: max(low - place, place - high, 0.0) for name, place in places.items()}
    near = [name for name, far in beyond.items() if far <= math.log(WITHIN)] or [min(beyond, key=lambda n: beyond[n])]
    chosen: list[str] = []
    for target in (low, high, (low + high) / 2):
        others = [name for name in near if name not in chosen]
        if others and len(chosen) < MOST:
            chosen.append(min(others, key=lambda name: abs(places[name] - target)))
    return sorted(chosen, key=lambda name: latencies[name])
