"""Devices: a processor, its runtime and a number of threads; and sessions of the runtime on it.

onnxruntime is imported when a device is first described or used, so that importing this module stays fast.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.specs import IDS, PAST, TOKENS, TOTAL
from wb.hardware.remote.runner import fields_of, processor
from wb.hardware.runtimes.known import OURS, PLUGGED, RUNTIMES, check_installed, runtime, runtime_with
from wb.hardware.runtimes.plugged import described

if TYPE_CHECKING:
    import onnxruntime as ort

AT = ", at "  # between what a device is and where it is

DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64,
    "tensor(uint32)": np.uint32,
    "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


class Takes(Protocol):
    """A session of the runtime, or what else says which inputs a graph takes."""

    def get_inputs(self) -> Sequence[Any]:
        """Their names, types and shapes, as attributes."""

    def get_modelmeta(self) -> Any:
        """What the graph's file says besides, in its attribute `custom_metadata_map`."""


class Device(BaseModel):
    """A processor, the runtime on it, and the number of threads that it may use.

    `name` is short for an execution provider of ONNX Runtime ("cpu", "cuda", …), or another runtime's device. `cores` pins the
    process to these cores during timing (None: the operating system chooses, which was no worse on a loaded machine). The
    other fields describe the machine and have defaults. `address` is where it is (`wb.hardware.remote.address`), None for this
    machine. Where it `scores`, graphs are scored
    on it too, and not only timed. Use `parse_device`, which checks the name, to make a device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "cpu"
    threads: int = Field(default=1, ge=1)
    cores: tuple[int, ...] | None = None
    processor: str = Field(default_factory=lambda data: processor_name(data["name"]))
    runtime: str = OURS
    version: str = Field(default_factory=lambda data: runtime(data["runtime"]).version())
    address: str | None = None
    scores: bool = False

    @property
    def key(self) -> str:
        """A hash of name, processor, runtime, version, threads and cores; a timing is valid for devices with the same key.

        Where the device is does not count: equal ones share their timings. The cores of this machine are taken to be alike.
        """
        parts = [self.name, self.processor, self.runtime, self.version, str(self.threads)]
        if self.cores is not None and self.address is not None:
            parts.append(f"cores {self.cores}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def here(self) -> Device:
        """The device that scores and compares: itself, or this machine's processor in the place of one elsewhere.

        In the place of another runtime it is ours, with as many threads.
        """
        if self.address is not None:
            return Device()
        return self if self.runtime == OURS else Device(threads=self.threads, cores=self.cores)

    @property
    def scorer(self) -> Device:
        """The device that scores graphs: itself where it is to, else `here`."""
        return self if self.scores else self.here

    def scoring(self, on: str) -> Device:
        """The same device, which also scores if `on` is "device".

        Raises:
            BadOption: nothing runs there, as it is a table.
        """
        if on == "device" and self.runtime not in RUNTIMES:
            raise BadOption(f"{self.address} is a table, on which nothing runs; leave --score-on out")
        return self.model_copy(update={"scores": on == "device"})

    @property
    def on_cpu(self) -> bool:
        """Whether it computes on the processor, in the thread that calls it: CPU time tells of disturbances then."""
        return self.name in ("cpu", *(name for name in RUNTIMES if name != OURS))

    @property
    def text(self) -> str:
        """The device as text: `cpu: AMD EPYC (family 26 model 2), onnxruntime 1.32.0, 1 thread`."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        where = "" if self.address is None else f"{AT}{self.address}"
        return f"{self.name}: {self.processor}, {self.runtime} {self.version}, {threads}{where}"


def unaddressed(text: str) -> str:
    """A device's text without its address, which is for its user only."""
    return text.partition(AT)[0]


def parse_device(
    spec: str = "cpu", threads: int = 1, cores: Iterable[int] | None = None, *, finished: bool = False
) -> Device:
    """The device called `spec`, with `threads` threads.

    `spec` is a device of a runtime here (`wb.hardware.runtimes.known`), a profile (`wb device list`) or an address
    (`wb.hardware.remote.address`); of one elsewhere, or of another runtime than ONNX Runtime, only latencies are measured
    there, unless it is `scoring`. Those whose runtime is slow to prepare graphs are for `finished` networks.

    Raises:
        BadOption: the device is not available, or for finished networks, or the process may not use so many threads or these
            cores.
        DeviceLost: it is elsewhere and does not answer.
        MissingExtra: it is that of a runtime which is not installed.
        Unsupported: it has no runtime.
    """
    own = runtime_with(spec)
    if own is None:
        check_installed(spec)
        from wb.hardware.remote.elsewhere import elsewhere  # rarely needed

        return elsewhere(spec, threads, finished=finished)
    usable = usable_cores()
    if not 1 <= threads <= len(usable):
        raise BadOption(f"threads={threads} on a machine where this process may use 1..{len(usable)} cores")
    pinned_to = None if cores is None else tuple(sorted(set(cores)))
    if pinned_to is not None and (not pinned_to or not set(pinned_to) <= set(usable)):
        raise BadOption(f"cores={list(pinned_to)} are not all usable; this process may use {list(usable)}")
    most = runtime(own).threads
    if most is not None and threads > most:
        raise BadOption(f"threads={threads} on {spec}, which has {most} at most; leave --threads out")
    fields = described(spec) if own == PLUGGED else dict[str, Any]()
    return Device(name=spec, threads=threads, cores=pinned_to, runtime=own, **fields)


def usable_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processor_name(device: str = "cpu") -> str:
    """The model name of the processor of `device`, as far as the operating system knows it.

    Limits: clouds often report only "AMD EPYC", so family and model number are added if known. The name of a graphics card is
    found only on Linux with NVIDIA's driver; otherwise the host's processor is named.
    """
    if device in ("cuda", "tensorrt"):
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            fields = fields_of(str(file))
            if "Model" in fields:
                return fields["Model"]
    return processor()


@contextmanager
def pinned(cores: Iterable[int] | None) -> Iterator[None]:
    """Pins the process to `cores` within the block; does nothing for None or on systems that cannot pin."""
    if cores is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cores))
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def session(graph: Path | bytes, device: Device) -> ort.InferenceSession:
    """Loads an ONNX file, or its bytes, on `device`: sequential execution, all optimisations, `device.threads` threads.

    Raises:
        BadArtefact: the file is missing, truncated or not an ONNX graph, or needs an operator or opset that the runtime lacks.
        Unsupported: the runtime cannot start the device (for instance, a driver is missing).
    """
    device = device.here
    if not isinstance(graph, bytes) and not graph.is_file():
        raise BadArtefact(f"{graph} is not a file; give an ONNX file, such as `wb export` writes")
    return cast("ort.InferenceSession", runtime(device.runtime).load(graph, device.name, device.threads))


TOKENS_KEY = "wb.tokens"  # metadata of a graph for texts: how many tokens it is timed with
MOST_TOKENS = 1 << 15


def run_note(inputs: Mapping[str, NDArray[Any]]) -> str | None:
    """A note for a reading of one run on such inputs, as `of_run`; of one that continues a text, what it continues."""
    (name, first), *others = inputs.items() if inputs else [("", np.empty(()))]
    before = others[0][1].shape[1] - first.shape[1] if name == IDS and others else 0
    if before > 0 and first.shape[0] == 1:
        return f"of one more token behind {before}" if first.shape[1] == 1 else f"of {first.shape[1]} behind {before}"
    return of_run(first.shape, name) if inputs else None


def of_run(shape: Sequence[int], name: str = "") -> str | None:
    """A note for a reading of one run whose first input has `shape`: how many examples it takes; None for a single one."""
    if name == IDS and shape[0] == 1:
        return f"of one text of {shape[1]} tokens"
    if not shape or shape[0] <= 1:
        return None
    return f"of one run, which takes {shape[0]} " + ("images" if len(shape) == 4 else "along its input's first axis")


def usual_tokens(loaded: Takes) -> int | None:
    """The number of tokens that a graph for texts names as the one to time it with; None where it names none."""
    found = loaded.get_modelmeta().custom_metadata_map.get(TOKENS_KEY, "")
    return int(found) if found.isdecimal() and 0 < int(found) <= MOST_TOKENS else None


def example_inputs(
    loaded: Takes, batch: int = 1, seed: int = 0, tokens: int | None = None, *, behind: bool = False
) -> dict[str, NDArray[Any]]:
    """Random inputs that fit the graph: name of the input -> array.

    Floats are uniform in [0, 1). Integers are 1 for masks, else 0 or 1 (ids that are valid in any vocabulary). A dynamic
    first axis becomes `batch`, and one called "tokens" as many as are given, or as the graph names. Where they are given, so
    does every other dynamic axis. A graph that continues texts gets them at the beginning of one or, `behind`, the last of them
    alone, with a past of the others.

    Raises:
        Unsupported: another axis is dynamic, an input is not a dense tensor, or the graph has a fixed batch other than `batch`.
    """
    axes = {axis for spec in loaded.get_inputs() for axis in spec.shape}
    if behind and TOTAL not in axes:
        raise Unsupported(
            "the graph takes no past, so that no single token can be timed; export it again from a decoder"
        )
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for spec in loaded.get_inputs():
        if spec.type not in DTYPES:
            raise Unsupported(f"input {spec.name!r} is {spec.type}; inputs can be made for {', '.join(DTYPES)}")
        known = tokens or usual_tokens(loaded)
        now = 1 if behind else known
        named = {} if known is None or now is None else {TOKENS: now, TOTAL: known, PAST: known - now}
        free = set() if tokens is None else {n for n in spec.shape[1:] if not isinstance(n, int) or n < 0}
        free -= {spec.shape[0]} if spec.shape and spec.shape[0] is not None else set()
        named |= {str(axis): known for axis in free if known is not None and str(axis) not in named}
        declared = [named.get(str(axis), axis) if n else axis for n, axis in enumerate(spec.shape)]
        shape = _shape(spec.name, declared, batch)
        dtype = DTYPES[spec.type]
        if np.issubdtype(dtype, np.floating):
            made[spec.name] = rng.random(shape).astype(dtype)
        else:
            low = 1 if "mask" in spec.name else 0
            made[spec.name] = rng.integers(low, 2, size=shape).astype(dtype)
    return made


def _shape(name: str, declared: list[int | str | None], batch: int) -> tuple[int, ...]:
    """`declared` with the batch axis filled in, and every other axis with the same symbol."""
    if not declared:
        return ()
    declared = [None if isinstance(n, int) and n < 0 else n for n in declared]  # -1: a dynamic axis
    first = declared[0]
    sizes = [batch if axis == 0 or (n is not None and n == first) else n for axis, n in enumerate(declared)]
    if isinstance(first, int):
        sizes = list(declared)
    fixed = [n for n in sizes if isinstance(n, int)]
    if len(fixed) < len(sizes):
        raise Unsupported(
            f"input {name!r} has the shape {declared}: only the first axis may be dynamic; export it with the others fixed"
        )
    if isinstance(first, int) and batch not in (1, first):
        raise Unsupported(f"input {name!r} has the fixed shape {declared}, so batch={batch} cannot be run; use {first}")
    return tuple(fixed)
