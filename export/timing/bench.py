"""Where samples are taken: on this machine, or on one elsewhere; the estimator (`wb.export.timing.measure`) is the same.

One elsewhere gets one message a batch, not one a sample, so that neither the network nor a processor that falls asleep while it
waits is in the samples.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.export.timing import clock
from wb.export.timing.clock import CLEAN, Probe, Sample
from wb.export.timing.reference import reference_graph
from wb.hardware.device import Device, example_inputs, run_note
from wb.hardware.remote.address import ask_hello, checked, greeting, link_to
from wb.hardware.remote.link import DeviceLost, Refused
from wb.hardware.remote.runner import REFERENCE, alternate, apart
from wb.hardware.runtimes.failures import said, why_not_loaded
from wb.hardware.runtimes.known import runtime
from wb.hardware.runtimes.ort import providers
from wb.hardware.tables import TABLE

LARGEST = 1 << 28  # numbers of an input
ATTEMPTS = 3  # at a batch, where the channel is lost each time
LOAD_S = 120.0  # at most, for a graph or for a batch of samples


T = TypeVar("T")


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
        taken = alternate(self.probes, order)
        return [self.probes[REFERENCE].judge(*one) for one in taken]

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


class There:
    """Graphs on a device elsewhere. When its channel is lost, it is opened again, and the batch is taken anew.

    Raises:
        BadArtefact: a graph does not load there, or fails when it runs.
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
        self._device, self._batch, self._seed, self._tokens = device, batch, seed, tokens
        self._behind = frozenset(behind)
        self._link = link_to(str(device.address))
        contents = {name: graph if isinstance(graph, bytes) else _read(graph) for name, graph in graphs.items()}
        self._contents = {REFERENCE: reference_graph(), **contents}
        self._what = {
            name: "the graph in memory" if isinstance(graph, bytes) else str(graph) for name, graph in graphs.items()
        }
        self.notes: dict[str, str | None] = {}
        self.cost_s: Mapping[str, float] = {}
        self._identity = greeting(str(device.address)).identity
        resolution = greeting(str(device.address)).clocks.get("thread_time", 1.0)
        self._judged = device.name == "cpu" and resolution < clock.SAMPLE_S / 50
        self._persistently(self._load)

    def run(self, order: Sequence[str]) -> list[Sample]:
        """As `Bench.run`."""

        def batch() -> list[Sample]:
            if self._link.loaded is not self:  # another runner, or other graphs in it
                self._load()
            seconds = LOAD_S + 20 * sum(self.cost_s[name] for name in order)  # new sessions are made within it too
            found = checked(_Batch, self._link.ask("batch", seconds=seconds, order=list(order)), self._link).samples
            if len(found) != 2 * len(order) + 1:
                raise self._link.nonsense(f"{len(found)} samples where {2 * len(order) + 1} were asked for")
            return [Sample(wall, cpu, not self._judged or cpu > CLEAN * wall) for wall, cpu in found]

        try:
            return self._persistently(batch)
        except Refused as error:
            raise BadArtefact(f"{self._device.address} fails while it runs the graphs ({said(error)})") from error

    def apart(self, name: str, script: str) -> str:
        """As `Bench.apart`."""
        sha = hashlib.sha256(self._contents[name]).hexdigest()

        def ask() -> str:
            if self._link.loaded is not self:
                self._load()
            found = self._link.ask("apart", script.encode(), seconds=LOAD_S + 10, sha=sha, name=name, limit_s=LOAD_S)
            return checked(_Said, found, self._link).said

        try:
            return self._persistently(ask)
        except Refused as error:
            raise BadArtefact(
                f"{self._device.address} fails on a graph in a process of its own ({said(error)})"
            ) from error

    def _persistently(self, work: Callable[[], T]) -> T:
        """Does `work`; where the channel is lost, once more, on everything loaded anew."""
        for left in reversed(range(ATTEMPTS)):
            try:
                return work()
            except DeviceLost:
                if not left:
                    raise
                self._link.again()
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def _load(self) -> None:
        """Sends what is missing there, and makes everything ready."""
        self._link.loaded = None
        if ask_hello(self._link).identity != self._identity:
            raise BadOption(
                f"another device, or another runtime, answers at {self._device.address} now; what was measured before is of "
                f"{self._device.text}. Begin again"
            )
        shas = {name: hashlib.sha256(content).hexdigest() for name, content in self._contents.items()}
        have = self._link.ask("have", shas=sorted(set(shas.values())))
        missing = set(checked(_Have, have, self._link).missing)
        for name, content in self._contents.items():
            if shas[name] in missing:
                self._link.ask("put", content, sha=shas[name])
                missing.discard(shas[name])
        for name in self._contents:
            self._feed(name, shas[name])
        try:
            ready = self._link.ask("ready", seconds=LOAD_S * len(shas), graphs=shas, sample_s=clock.SAMPLE_S)
        except Refused as error:
            raise BadArtefact(
                f"a graph loads on {self._device.address} but fails when it runs; export it again ({said(error)})"
            ) from error
        self.cost_s = checked(_Ready, ready, self._link).cost_s
        if self.cost_s.keys() != shas.keys():
            raise self._link.nonsense("other graphs are ready than were sent")
        self._link.loaded = self

    def _feed(self, name: str, sha: str) -> None:
        """Loads a graph and makes inputs for it."""
        device, what = self._device, self._what.get(name, "the reference graph")
        provider = f"{device.name.upper()}ExecutionProvider"
        provider = providers().get(device.name, provider)
        try:
            answer = self._link.ask(
                "load", seconds=LOAD_S, sha=sha, threads=device.threads, provider=provider, cores=device.cores
            )
        except Refused as error:
            if error.kind in ("MemoryError", "OSError", "KeyError"):  # not the graph's fault
                raise self._link.nonsense(f"{what} could not be loaded: {error}") from error
            known = f"{device.runtime} {device.version}"
            text = why_not_loaded(what, str(error), known, device.name, self._contents[name])
            raise BadArtefact(text) from error
        found = checked(_Loaded, answer, self._link)
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
        inputs: Mapping[str, NDArray[Any]] = example_inputs(
            takes, batch, self._seed, self._tokens, behind=name in self._behind
        )
        self.notes[name] = run_note(inputs)
        buffer = io.BytesIO()
        np.savez(buffer, **dict(inputs))  # type: ignore[arg-type]  # names, not options
        self._link.ask("feed", buffer.getvalue(), name=name)


class _Have(BaseModel):
    missing: list[str]


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


def _read(graph: Path) -> bytes:
    """The content of a graph's file. Raises `BadArtefact` if it is none."""
    if not graph.is_file():
        raise BadArtefact(f"{graph} is not a file; give an ONNX file, such as `wb export` writes")
    return graph.read_bytes()
