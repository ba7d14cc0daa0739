"""Where samples are taken: on this machine, or on one elsewhere; the estimator (`wb.export.timing.measure`) is the same.

One elsewhere gets one message a batch, not one a sample, so that neither the network nor a processor that falls asleep while it
waits is in the samples.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.export.timing import clock
from wb.export.timing.clock import CLEAN, Probe, Sample
from wb.export.timing.reference import reference_graph
from wb.hardware.device import Device, example_inputs, run_note, session
from wb.hardware.remote.address import checked, greeting
from wb.hardware.remote.link import Refused
from wb.hardware.remote.runner import REFERENCE, alternate, apart
from wb.hardware.remote.tenant import LOAD_S, Tenant, content_of, hash_of
from wb.hardware.runtimes.conversion import Conversion, converted
from wb.hardware.runtimes.failures import said
from wb.hardware.runtimes.known import OURS, runtime
from wb.hardware.tables import TABLE

LARGEST = 1 << 28  # numbers of an input


class Bench(Protocol):
    """Graphs that are ready for samples, by name, with the reference beside them."""

    @property
    def notes(self) -> Mapping[str, str | None]:
        """What one run of each takes (`wb.hardware.device.run_note`)."""

    @property
    def cost_s(self) -> Mapping[str, float]:
        """The seconds of one sample of each, with the reference's."""

    def run(self, order: Sequence[str]) -> list[Sample]:
        """Samples of the graphs in `order`, each between two of the reference: 2 n + 1 of them."""

    def apart(self, name: str, script: str) -> str:
        """What `script` prints in a process of its own with a graph's file and inputs (`wb.hardware.remote.runner.apart`)."""


def bench_of(
    graphs: Mapping[str, Path | bytes],
    device: Device,
    batch: int,
    seed: int,
    tokens: int | None = None,
    behind: Collection[str] = (),
    on: Mapping[str, Device] | None = None,
) -> Bench:
    """The bench of a device; graphs that `on` names are run on another one of this machine.

    Raises as `wb.export.timing.measure.measure_latency`.
    """
    if device.runtime == TABLE:
        raise BadOption(
            f"{device.address} is a table, in which nothing is timed: wb measure predicts with it, and wb search by a name, as "
            "in wb device add phone table:FILE and --objectives acc,latency@phone"
        )
    if device.address is not None:
        return There(graphs, device, batch, seed, tokens, behind)
    return Here(graphs, device, batch, seed, tokens, behind, on)


class Here:
    """Graphs on this machine, also by several runtimes. The reference is always ONNX Runtime's, so that their ratios compare."""

    def __init__(
        self,
        graphs: Mapping[str, Path | bytes],
        device: Device,
        batch: int,
        seed: int,
        tokens: int | None = None,
        behind: Collection[str] = (),
        on: Mapping[str, Device] | None = None,
    ) -> None:
        self._devices = {name: (on or {}).get(name, device) for name in graphs}
        self.probes = {
            name: Probe(graph, self._devices[name], batch, seed, tokens, behind=name in behind)
            for name, graph in graphs.items()
        }
        self.notes = {name: probe.note for name, probe in self.probes.items()}
        self.cost_s = {name: probe.cost_s for name, probe in self.probes.items()}
        self.probes[REFERENCE] = Probe(reference_graph(), device.here)

    def run(self, order: Sequence[str]) -> list[Sample]:
        """As `Bench.run`."""
        names = [REFERENCE, *(each for name in order for each in (name, REFERENCE))]
        return [self.probes[name].judge(*one) for name, one in zip(names, alternate(self.probes, order), strict=True)]

    def apart(self, name: str, script: str) -> str:
        """As `Bench.apart`."""
        probe = self.probes[name]
        content = probe.graph if isinstance(probe.graph, bytes) else str(probe.graph.absolute())
        device = self._devices[name]
        options = {"threads": device.threads, "provider": runtime(device.runtime).devices()[device.name]}
        try:
            return apart(script, content, probe.inputs, options, LOAD_S)
        except (OSError, RuntimeError) as error:
            raise BadArtefact(f"a graph fails in a process of its own ({said(error)})") from error


class There(Tenant):
    """Graphs on a device elsewhere. When its channel is lost, it is opened again, and the batch is taken anew.

    Another runtime there is compared with ours here before anything is timed; the reference is always ours.

    Raises:
        BadArtefact: a graph does not load there, fails when it runs, or gives something else.
        DeviceLost: it does not answer, and has not come back.
        Unsupported: no inputs can be made for a graph.
    """

    def __init__(
        self,
        graphs: Mapping[str, Path | bytes],
        device: Device,
        batch: int,
        seed: int,
        tokens: int | None = None,
        behind: Collection[str] = (),
    ) -> None:
        super().__init__(device)
        self._batch, self._seed, self._tokens = batch, seed, tokens
        self._behind = frozenset(behind)
        contents = {name: content_of(graph) for name, graph in graphs.items()}
        self._what = {
            name: "the graph in memory" if isinstance(graph, bytes) else str(graph) for name, graph in graphs.items()
        }
        self.notes: dict[str, str | None] = {}
        self._made: dict[str, Conversion] = {}  # for another runtime than ours
        if device.runtime != OURS:
            self._made = {name: self._converted(name, graphs[name]) for name in graphs}
            contents = {name: content_of(made.graph) for name, made in self._made.items()}
        self._contents = {REFERENCE: reference_graph(), **contents}
        self.cost_s: Mapping[str, float] = {}
        resolution = greeting(str(device.address)).clocks.get("thread_time", 1.0)
        self._judged = device.on_cpu and resolution < clock.SAMPLE_S / 50
        self.persistently(lambda: None)

    def run(self, order: Sequence[str]) -> list[Sample]:
        """As `Bench.run`."""

        def batch() -> list[Sample]:
            seconds = LOAD_S + 20 * sum(self.cost_s[name] for name in order)  # new sessions are made within it too
            found = checked(_Batch, self.link.ask("batch", seconds=seconds, order=list(order)), self.link).samples
            if len(found) != 2 * len(order) + 1:
                raise self.link.nonsense(f"{len(found)} samples where {2 * len(order) + 1} were asked for")
            return [Sample(wall, cpu, not self._judged or cpu > CLEAN * wall) for wall, cpu in found]

        try:
            return self.persistently(batch)
        except Refused as error:
            raise BadArtefact(f"{self.device.address} fails while it runs the graphs ({said(error)})") from error

    def apart(self, name: str, script: str) -> str:
        """As `Bench.apart`."""
        sha = hash_of(self._contents[name])

        def ask() -> str:
            found = self.link.ask("apart", script.encode(), seconds=LOAD_S + 10, sha=sha, name=name, limit_s=LOAD_S)
            return checked(_Said, found, self.link).said

        try:
            return self.persistently(ask)
        except Refused as error:
            raise BadArtefact(
                f"{self.device.address} fails on a graph in a process of its own ({said(error)})"
            ) from error

    def load(self) -> None:
        """As `Tenant.load`."""
        self.send(self._contents.values())
        for name in self._contents:
            self._feed(name)
        shas = {name: hash_of(content) for name, content in self._contents.items()}
        try:
            ready = self.link.ask("ready", seconds=LOAD_S * len(shas), graphs=shas, sample_s=clock.SAMPLE_S)
        except Refused as error:
            raise BadArtefact(
                f"a graph loads on {self.device.address} but fails when it runs; export it again ({said(error)})"
            ) from error
        self.cost_s = checked(_Ready, ready, self.link).cost_s
        if self.cost_s.keys() != shas.keys():
            raise self.link.nonsense("other graphs are ready than were sent")

    def _feed(self, name: str) -> None:
        """Loads a graph and sends inputs for it."""
        what = self._what.get(name, "the reference graph")
        answer = self.asked("load", name, self._contents[name], what, ours=name == REFERENCE)
        inputs = self._inputs(name, checked(_Loaded, answer, self.link), what)
        self.notes[name] = run_note(inputs)
        if name in self._made:
            self.notes[name] = "; ".join(filter(None, (run_note(inputs), self._made[name].note)))
        buffer = io.BytesIO()
        np.savez(buffer, **dict(inputs))  # type: ignore[arg-type]  # names, not options
        self.link.ask("feed", buffer.getvalue(), name=name)

    def _inputs(self, name: str, found: _Loaded, what: str) -> Mapping[str, NDArray[Any]]:
        """What a graph is run on."""
        if name in self._made:
            return self._made[name].inputs
        if any(
            math.prod(size for size in one.shape if isinstance(size, int) and size > 0) > LARGEST
            for one in found.inputs
        ):
            raise Unsupported(f"{what} takes an input of more than {LARGEST:,} numbers, for which none are made up")
        takes = SimpleNamespace(
            get_inputs=lambda: found.inputs,
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=found.metadata),
        )
        batch = 1 if name == REFERENCE else self._batch
        return example_inputs(takes, batch, self._seed, self._tokens, behind=name in self._behind)

    def _converted(self, name: str, graph: Path | bytes) -> Conversion:
        """A graph for the runtime there, whose outputs were compared."""
        ours = session(graph, Device())
        inputs = example_inputs(ours, self._batch, self._seed, self._tokens, behind=name in self._behind)
        return converted(graph, self.device, ours, inputs)


class _Takes(BaseModel):
    name: str
    type: str
    shape: list[int | str | None]


class _Loaded(BaseModel):
    inputs: list[_Takes]
    metadata: dict[str, str]


class _Ready(BaseModel):
    cost_s: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class _Said(BaseModel):
    said: str


class _Batch(BaseModel):
    samples: list[
        tuple[
            Annotated[float, Field(gt=0, allow_inf_nan=False)],
            Annotated[float, Field(ge=0, allow_inf_nan=False)],
        ]
    ]
