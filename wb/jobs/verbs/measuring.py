"""Measurement of one file: latency with its spread, accuracy if there are data, and counted metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.system.durations import parse_duration
from wb.core.system.files import scratch
from wb.data import Dataset, Split
from wb.data.preparation import Preparation
from wb.export.counting.count import count_model
from wb.export.devices.several import Place, on_each, places, with_nodes
from wb.export.exits.ways import export_any, graph_exits, measured
from wb.export.foreign.opening import file_size, open_graph
from wb.export.foreign.trial import LIMIT_S, try_out
from wb.export.graph import read_architecture
from wb.export.score import examined
from wb.export.texts import stretches
from wb.export.timing.footprint import Footprint, footprint
from wb.export.timing.runs import LATENCY, TOKEN, measure_runs, readings_of
from wb.export.timing.sustained import sustained_latency
from wb.hardware.device import Device, of_run
from wb.hardware.tables import TABLE
from wb.jobs.calls.shown import Shown, Table, readings_table
from wb.jobs.frame.config import MeasureConfig
from wb.jobs.inputs import Choice, Say, choose
from wb.jobs.kinds import GRAPH, MODELS, need
from wb.jobs.reading import read_data
from wb.jobs.verbs.preparation import OPTIONS, of_graph, refuse_for_ours
from wb.models.exits.record import Exits
from wb.tasks.base import Task
from wb.tasks.known import task_of

ONE_WAY = "counts are of the whole network, whoever leaves it early; a run takes one example"


@dataclass(frozen=True, repr=False)
class Measured(Shown):
    """The readings of a file; `missing` gives the reason for each metric without a number, `remarks` are notes for the user."""

    path: Path
    readings: Mapping[str, Reading]
    missing: Mapping[str, str]
    remarks: tuple[str, ...]
    scored: bool

    def table(self) -> Table:
        """The readings."""
        lines = (*self.remarks, *(f"no {name}: {why}" for name, why in self.missing.items()))
        return readings_table(str(self.path), self.readings, lines)


class Measuring(MeasureConfig):
    """How a file is measured: as a configuration says, and besides how a network that is not wb's is tried out.

    `images` is how its images are prepared, `run_limit` are the seconds of trying it out.
    """

    images: Preparation | None = None
    run_limit: float | None = None

    def __call__(self, file: Path, progress: Progress, say: Say) -> Measured:
        """Measures the model or graph in `file`.

        Raises:
            BadOption: no such split, or an option that would do nothing.
            WbError: the file or the data are damaged or do not fit each other.
        """
        if self.split not in ("validation", "test"):
            raise BadOption(f"no split {self.split!r}; there are validation and test")
        kind = need(file, *MODELS, "onnx", expected=GRAPH)
        choice = _chosen(file, self, say)
        where = self._places()
        scorers = self._scorers(where, scored=choice.spec is not None)
        device = where[0].device
        with scratch() as folder:
            graph = file
            if kind != "onnx":
                progress("exporting", 0, 0)
                graph = folder / "model.onnx"
                export_any(file, graph)
            architecture, remarks = _own(graph)
            exits = self._exits(graph, where)
            if choice.spec is not None:
                dataset, notes = read_data(file, choice, of_graph(graph, self.images), by_index=self.by_index)
            if self.tokens is not None:
                architecture = _timed(architecture, graph, self.tokens)
            if graph is file:
                progress("trying it out", 0, 0)
            readings, missing = _counted(graph, architecture, device, self, foreign=graph is file)
            if exits is not None:
                split = None if choice.spec is None else _split(dataset, self.split)
                progress("timing every way out", 0, 0)
                readings |= measured(graph, exits, device, split, seed=self.seed, cap_s=self.cap)
                remarks = [*remarks, ONE_WAY]
            elif len(where) > 1 or device.runtime == TABLE:
                readings |= self._on_each(graph, where, architecture, progress)
            else:
                readings |= self._latency(graph, device, architecture, progress)
            if device.runtime != TABLE:
                taken = self._taken(graph, device, progress)
                readings |= taken.readings
                missing = {**missing, **taken.missing}
            if choice.spec is not None:
                progress("scoring", 0, 0)
                title = METRICS[task_of(architecture).metric].title
                name = f"{title} ({dataset.name}, {self.split})"
                task, own = task_of(architecture), architecture is not None
                readings |= {
                    name + at: _quality(graph, dataset, self.split, one, notes, task, own=own)
                    for at, one in scorers.items()
                }
        return Measured(file, readings, missing, tuple(remarks), choice.spec is not None)

    def _exits(self, graph: Path, where: Sequence[Place]) -> Exits | None:
        """The exits of a graph, if it has any. Raises `BadOption` for what is of graphs with one way."""
        exits = graph_exits(graph)
        if exits is not None and (len(where) > 1 or where[0].device.runtime == TABLE):
            raise BadOption(
                f"--device {self.device} is for graphs with one way; name one device, which can run this one"
            )
        if exits is not None and (self.batch > 1 or self.sustained is not None):
            option = f"--batch {self.batch}" if self.batch > 1 else "--sustained"
            raise BadOption(
                f"{option} is for graphs with one way; one with early exits takes an example a run. Leave it out"
            )
        return exits

    def _places(self) -> list[Place]:
        """The devices. Raises `BadOption` where an option is of no use with what is known from a table."""
        where = places(self.device, self.threads)
        if where[0].device.runtime == TABLE and self.sustained is not None:
            raise BadOption(f"{where[0].name} is known from a table, which says nothing of --sustained; leave it out")
        return where

    def _scorers(self, where: Sequence[Place], *, scored: bool) -> Mapping[str, Device]:
        """Ending of a reading's name -> the device that scores: this machine for all, or each where that is asked for.

        Raises `BadOption` where a device cannot, or nothing is `scored`.
        """
        if self.score_on == "here":
            return {"": where[0].device}
        if not scored:
            raise BadOption("--score-on device is of no use without data; name some with --data")
        return {f"@{name}" if len(where) > 1 else "": device.scoring(self.score_on) for name, device in where}

    def _latency(
        self, graph: Path, device: Device, architecture: Architecture | None, progress: Progress
    ) -> dict[str, Reading]:
        """The latencies on one device, and what follows from them."""
        progress("timing", 0, 0)
        continues = architecture is not None and architecture.causal
        timed = measure_runs(
            {graph.name: graph},
            device,
            continues=continues,
            batch=self.batch,
            cap_s=self.cap,
            seed=self.seed,
            tokens=self.tokens,
        )
        found = {metric: one for metric, one in timed[graph.name].items() if metric != LATENCY or not continues}
        readings: dict[str, Reading] = {}
        for metric, one in readings_of(found).items():
            readings |= with_nodes({metric: one}, graph, device, self.batch, self.tokens, behind=metric == TOKEN)
        readings |= {f"{metric} / reference": latency.ratio for metric, latency in found.items()}
        readings |= {} if continues else _throughput(readings[LATENCY], self.batch)
        return readings | self._sustained(graph, device, progress, continues=continues)

    def _on_each(
        self, graph: Path, where: Sequence[Place], architecture: Architecture | None, progress: Progress
    ) -> dict[str, Reading]:
        """The latencies on several devices, by the metric's name there, and their ratios; what lasts is of the first."""
        if architecture is not None and architecture.causal:
            raise BadOption(f"--device {self.device} is for networks without a cache; name one device for this one")
        found = on_each(
            graph,
            where,
            architecture,
            batch=self.batch,
            cap_s=self.cap,
            seed=self.seed,
            tokens=self.tokens,
            progress=lambda what: progress(what, 0, 0),
        )
        for place in where:
            found |= with_nodes({place.name: found[place.name]}, graph, place.device, self.batch, self.tokens)
        return {f"{LATENCY}@{name}": one for name, one in found.items()} | self._sustained(
            graph, where[0].device, progress, continues=False
        )

    def _taken(self, graph: Path, device: Device, progress: Progress) -> Footprint:
        """Memory and loading; what was timed is worth more than a failure of it."""
        progress("loading it in other processes", 0, 0)
        try:
            return footprint(graph, device, batch=self.batch, seed=self.seed, tokens=self.tokens)
        except BadArtefact as error:
            return Footprint({}, dict.fromkeys(("memory", "load cold", "load warm"), str(error)))

    def _sustained(self, graph: Path, device: Device, progress: Progress, *, continues: bool) -> dict[str, Reading]:
        """The latency under load that lasts, if it is asked for; of a graph that continues texts that of a token."""
        if self.sustained is None:
            return {}
        seconds = parse_duration(self.sustained)
        found = sustained_latency(
            graph,
            device,
            seconds,
            batch=self.batch,
            seed=self.seed,
            tokens=self.tokens,
            behind=continues,
            progress=lambda over: progress("running it all the time", int(over), math.ceil(seconds)),
        )
        if not continues:
            return found
        token = "of the last token of a text, behind the others"
        return {
            name.replace("latency", TOKEN): one.model_copy(update={"note": f"{token}; {one.note}"})
            for name, one in found.items()
        }


def _chosen(file: Path, how: Measuring, say: Say) -> Choice:
    """The data to score on, if any. Raises `BadOption` for image options without images, or with a model of the workbench."""
    if file.suffix != ".onnx":
        refuse_for_ours(str(file), how.images)
    choice = choose([file], how.data, how.image_size, say=say, needed=False, graphs=True, truncate=how.truncate)
    if choice.spec is None and (how.images is not None or how.image_size is not None or how.by_index):
        given = "--by-index is" if how.by_index else "--image-size is" if how.images is None else f"{OPTIONS} are"
        raise BadOption(f"{given} of no use without data; name some with --data")
    return choice


def _own(graph: Path) -> tuple[Architecture | None, list[str]]:
    """The architecture in a graph of the workbench, and a note if it is damaged."""
    open_graph(graph)  # what is wrong with the file itself is an error
    try:
        return read_architecture(graph), []
    except BadArtefact as error:
        return None, [f"{error}; it is measured like any other graph"]


def _timed(architecture: Architecture | None, graph: Path, tokens: int) -> Architecture | None:
    """The network whose counts are of texts of so many tokens. Raises `BadOption` where it, or the graph, takes none such."""
    if architecture is None:
        if not stretches(graph):
            raise BadOption(
                f"--tokens {tokens} is for graphs with an axis of tokens, and {graph} has none; leave it out"
            )
        return None
    if architecture.input.usual_tokens is None:
        raise BadOption(f"--tokens {tokens} is for networks that take texts, and this one takes images; leave it out")
    longest = architecture.layout.shape[0]
    if tokens > longest:
        raise BadOption(f"--tokens {tokens} is longer than the network reads; give at most {longest}")
    return architecture.model_copy(update={"input": architecture.input.model_copy(update={"tokens": tokens})})


def _split(dataset: Dataset, name: str) -> Split:
    return dataset.validation if name == "validation" else dataset.test


def _throughput(latency: Reading, batch: int) -> dict[str, Reading]:
    """How many examples a second a batch of several is; of one it is the latency again."""
    if batch == 1:
        return {}
    low, high = latency.interval or (latency.value, latency.value)
    interval = (1000 * batch / high, 1000 * batch / low) if low > 0 else None
    found = {"value": 1000 * batch / latency.value, "interval": interval}
    return {"throughput": latency.model_copy(update={**found, "unit": "examples/s"})}


def _counted(
    graph: Path,
    architecture: Architecture | None,
    device: Device,
    how: Measuring,
    *,
    foreign: bool,
) -> tuple[dict[str, Reading], Mapping[str, str]]:
    """The counted metrics, and a reason for each that is missing.

    A graph of the workbench is counted by its architecture; a graph from a file is tried out first.
    """
    batch, limit_s = how.batch, LIMIT_S if how.run_limit is None else how.run_limit
    trial = try_out(graph, device, batch, how.seed, limit_s, how.tokens) if foreign else None
    size = {"size": file_size(graph)}
    if architecture is not None:
        return _of_run(count_model(architecture, graph), batch) | size, {}
    return (size, {}) if trial is None else (size | trial.readings, trial.missing)


def _of_run(readings: Mapping[str, Reading], batch: int) -> dict[str, Reading]:
    """Readings per image turned into readings per run of a batch, to match the latency."""
    note = of_run((batch, 0, 0, 0))
    found = dict(readings)
    for name in ("macs", "energy") if note else ():
        reading = readings[name]
        notes = "; ".join(text for text in (reading.note, note) if text)
        found[name] = reading.model_copy(update={"value": batch * reading.value, "note": notes})
    return found


def _quality(
    graph: Path, dataset: Dataset, split: str, device: Device, notes: Sequence[str], task: Task, *, own: bool
) -> Reading:
    """The task's metric on one split; its note has the preparation of images, the matching of classes, and any doubt."""
    reading, doubt = examined(graph, _split(dataset, split), task, device, own=own)
    note = "; ".join(text for text in (reading.note, *notes, doubt) if text)
    return reading.model_copy(update={"note": note or None})
