"""The finalists, and known networks beside them, are timed together and graded on the validation split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pydantic import TypeAdapter

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact
from wb.core.measures.readings import Reading
from wb.core.system.files import write_text
from wb.data import Dataset
from wb.export.counting.count import count_model
from wb.export.score import graded, score
from wb.export.timing.footprint import costs_of
from wb.export.timing.runs import measure_runs, readings_of
from wb.hardware.device import Device
from wb.hardware.runtimes.base import Way
from wb.search.ending.known.beside import Beside
from wb.search.ending.known.words import words_alone
from wb.search.ending.retrained import judged_apart
from wb.search.ending.twins import Made
from wb.search.places import Places, Written
from wb.search.results.baselines import Baseline
from wb.search.results.stored import stored
from wb.tasks.base import Task

PRECISION = 0.03
EACH_S = 2.0  # seconds of timing for each graph, at most

Costs = dict[str, dict[str, Reading]]  # by network and metric
_KEPT = TypeAdapter(dict[str, Costs])


class Judged(NamedTuple):
    """The readings of each finalist, the grades of what it answers on the validation split, and what is beside them."""

    readings: dict[int, dict[str, Reading]]
    right: dict[int, NDArray[Any]]
    baselines: list[Baseline]


class _Candidate(NamedTuple):
    """What is timed."""

    architecture: Architecture
    path: Path
    paths: Mapping[Way, Path]
    fingerprint: str


@dataclass(frozen=True)
class Judging:
    """Reads finalists and known networks, all in one run. The lock `alone` is held during timing.

    What was measured is kept in the file `kept`, if there is one, so that a search that ends before the front is written has the
    same front when it is resumed: two timings of the same networks may disagree on what is on it.
    """

    data: Dataset
    task: Task
    device: Device
    pace: Reading
    ways: Sequence[Way]
    places: Places
    apart: Sequence[str]
    seed: int
    progress: Progress
    alone: Callable[[], AbstractContextManager[None]]
    continues: bool  # whether the networks continue texts
    retrain: bool
    kept: Path | None = None

    def __call__(
        self, made: Mapping[int, Made], beside: Mapping[str, Beside], written: Mapping[int, Mapping[Way, Path]]
    ) -> Judged:
        """Judges the finalists and twins `made`, whose graphs for all devices were `written`, and what is `beside` them."""
        candidates = {
            str(n): self._candidate(one.architecture, one.path, one.model.fingerprint(), written.get(n))
            for n, one in made.items()
        }
        candidates |= {
            name: self._candidate(one.model.architecture, one.path, one.model.fingerprint())
            for name, one in beside.items()
        }
        costs = self._costs(candidates)
        grades = {n: graded(one.path, self.data.validation, self.task, self.device) for n, one in made.items()}
        text = self.device.scorer.text
        readings = {
            n: costs[str(n)] | {self.task.metric: self.task.reading(grade, text)} for n, grade in grades.items()
        }
        right = {n: grade.each for n, grade in grades.items()}
        return Judged(readings, right, self._baselines(beside, costs) if beside else [])

    def _candidate(
        self, architecture: Architecture, path: Path, fingerprint: str, paths: Mapping[Way, Path] | None = None
    ) -> _Candidate:
        return _Candidate(architecture, path, paths or dict.fromkeys(self.ways, path), fingerprint)

    def _costs(self, candidates: Mapping[str, _Candidate]) -> Costs:
        """What was counted and measured of each; read back, where the same networks were measured before."""
        key = self._key(candidates)
        if self.kept is not None:
            with suppress(BadArtefact):  # a damaged file is made again
                found = stored(self.kept, _KEPT, "the timings of the finalists") or {}
                if key in found:
                    return found[key]
        costs = self._measured(candidates)
        if self.kept is not None:
            content = {name: {m: r.model_dump(mode="json") for m, r in own.items()} for name, own in costs.items()}
            write_text(self.kept, json.dumps({key: content}) + "\n")
        return costs

    def _key(self, candidates: Mapping[str, _Candidate]) -> str:
        """Of what is measured, and where."""
        devices = {name: device.key for name, device in self.places.devices.items()}
        # Twins have the weights of finalists, and architectures of their own.
        networks = {name: (one.architecture.key, one.fingerprint) for name, one in candidates.items()}
        what = [self.device.key, devices, [*self.apart], networks]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]

    def _measured(self, candidates: Mapping[str, _Candidate]) -> Costs:
        self.progress("timing the finalists together", 0, 1)
        with self.alone():
            timed = measure_runs(
                {name: one.path for name, one in candidates.items()},
                self.device,
                continues=self.continues,
                precision=PRECISION,
                cap_s=EACH_S * (len(candidates) + 1),
                seed=self.seed,
                pace=self.pace,
            )
        elsewhere = self._elsewhere(candidates)
        costs = {}
        for name, one in candidates.items():
            with self.alone():
                taken = costs_of(one.path, self.device, self.apart)
            costs[name] = count_model(one.architecture, one.path) | readings_of(timed[name]) | taken | elsewhere[name]
        return costs

    def _elsewhere(self, candidates: Mapping[str, _Candidate]) -> Costs:
        """The latencies on the devices that metrics name."""
        if not self.places.devices:
            return {name: {} for name in candidates}
        self.progress("timing the finalists on the devices of the objectives", 0, 1)
        networks = {name: Written(one.architecture, one.paths) for name, one in candidates.items()}
        with self.alone():
            return self.places.latencies(networks, precision=PRECISION, cap_s=EACH_S, seed=self.seed)

    def _baselines(self, beside: Mapping[str, Beside], costs: Costs) -> list[Baseline]:
        """What is beside the finalists; the test split sees what was trained as what is delivered was."""
        found = []
        for name, one in beside.items():
            own = self.task.reading(
                graded(one.path, self.data.validation, self.task, self.device), self.device.scorer.text
            )
            values = costs[name] | {self.task.metric: own}
            values |= {"size": count_model(one.model.architecture, one.tested)["size"]}
            test = score(one.tested, self.data.test, self.task, self.device)
            found.append(Baseline(name=name, values=values, test=test))
        again = {name for name, one in beside.items() if one.tested != one.path}
        if self.data.train.vocabulary is not None and self.data.classes:
            words = words_alone(self.data, self.task, self.seed, retrain=self.retrain)
            found += filter(None, [words])
            again |= {words.name} if words and self.retrain else set()
        metric, noun = self.task.metric, self.data.train.noun
        return [
            one.model_copy(update={"values": judged_apart(one.values, metric, noun)}) if one.name in again else one
            for one in found
        ]
