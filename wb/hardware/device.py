"""Where a graph is timed: a runtime on a processor with a fixed number of threads, and sessions on it.

onnxruntime is imported when a device is first described or used, so that importing this module stays cheap.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from wb.core.errors import BadArtefact, BadOption, Unsupported, printable

if TYPE_CHECKING:
    import onnxruntime as ort

REMOTE = ("AzureExecutionProvider",)  # calls a web service: nothing of this machine to time

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


def _runtime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


class Device(BaseModel):
    """A processor, the runtime on it, and how many threads it may use.

    `name` is an execution provider of ONNX Runtime in short ("cpu", "cuda", …); `cores` pins the process to these cores
    while it is timed (None: the operating system chooses, which measured no worse on a loaded machine). The rest
    describes the machine and is filled in by itself. Make one with `parse_device`, which checks the name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "cpu"
    threads: int = Field(default=1, ge=1)
    cores: tuple[int, ...] | None = None
    processor: str = Field(default_factory=lambda data: processor_name(data["name"]))
    runtime: str = "onnxruntime"
    version: str = Field(default_factory=_runtime_version)

    @property
    def key(self) -> str:
        """What a timing is valid for: a hash of name, processor, runtime, version and threads."""
        parts = (self.name, self.processor, self.runtime, self.version, str(self.threads))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @property
    def text(self) -> str:
        """For people and for `Reading.device`: `cpu: AMD EPYC (family 26 model 2), onnxruntime 1.32.0, 1 thread`."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.name}: {self.processor}, {self.runtime} {self.version}, {threads}"


def parse_device(spec: str = "cpu", threads: int = 1, cores: Iterable[int] | None = None) -> Device:
    """The device called `spec`, with `threads` threads.

    Raises:
        BadOption: no such device here, or more threads or other cores than the process may use.
    """
    known = providers()
    if spec not in known:
        raise BadOption(f"there is no device {spec!r} here; the installed onnxruntime offers {', '.join(known)}")
    usable = usable_cores()
    if not 1 <= threads <= len(usable):
        raise BadOption(f"threads={threads} on a machine where this process may use 1..{len(usable)} cores")
    pinned_to = None if cores is None else tuple(sorted(set(cores)))
    if pinned_to is not None and (not pinned_to or not set(pinned_to) <= set(usable)):
        raise BadOption(f"cores={list(pinned_to)} are not all usable; this process may use {list(usable)}")
    return Device(name=spec, threads=threads, cores=pinned_to)


@cache
def providers() -> dict[str, str]:
    """Short name -> execution provider of the installed onnxruntime, `cpu` first."""
    import onnxruntime

    found = [p for p in onnxruntime.get_available_providers() if p not in REMOTE]
    names = {p.removesuffix("ExecutionProvider").lower(): p for p in found}
    return dict(sorted(names.items(), key=lambda item: (item[0] != "cpu", item[0])))


def usable_cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def processor_name(device: str = "cpu") -> str:
    """The model name of the processor behind `device`, as far as the operating system tells.

    Limits: clouds often give only "AMD EPYC", so family and model number are added where they are known. The name of a
    graphics card is found on Linux with NVIDIA's driver only; else the host's processor is named.
    """
    if device in ("cuda", "tensorrt"):
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            fields = _fields(file)
            if "Model" in fields:
                return fields["Model"]
    fields = _fields(Path("/proc/cpuinfo"))
    if "model name" in fields:
        return f"{fields['model name']} (family {fields.get('cpu family', '?')} model {fields.get('model', '?')})"
    return platform.processor() or platform.machine() or "unknown processor"


def _fields(file: Path) -> dict[str, str]:
    """The first value of each `name : value` line; empty where the file cannot be read."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    pairs = [line.partition(":") for line in lines]
    return {name.strip(): value.strip() for name, _, value in reversed(pairs) if value.strip()}


@contextmanager
def pinned(cores: Iterable[int] | None) -> Iterator[None]:
    """Keeps the process on `cores` inside the block; does nothing for None or where the system cannot do it."""
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
    """Loads an ONNX file, or its bytes, on `device`: sequential, all optimisations, `device.threads` threads.

    Raises:
        BadArtefact: missing, truncated, no ONNX graph, or with an operator or opset that the runtime lacks.
        Unsupported: the runtime cannot start this device (for instance a missing driver).
    """
    import onnxruntime

    what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
    if not isinstance(graph, bytes) and not graph.is_file():
        raise BadArtefact(f"{what} is not a file; give an ONNX file, such as `wb export` writes")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = device.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised; the runtime would print it to stderr as well
    provider = providers()[device.name]
    try:
        loaded = onnxruntime.InferenceSession(
            graph if isinstance(graph, bytes) else str(graph),
            sess_options=options,
            providers=[provider],
            enable_fallback=0,  # else it prints what went wrong to stdout, and does it again
        )
    except Exception as error:  # the runtime's exceptions have no common base class
        raise BadArtefact(_why_not_loaded(what, str(error), device)) from error
    if loaded.get_providers()[0] != provider:  # the runtime falls back to the CPU without an error
        raise Unsupported(f"onnxruntime could not start {provider} for {what}; check its driver, or use --device cpu")
    return loaded


def _why_not_loaded(what: str, message: str, device: Device) -> str:
    """One sentence for the usual reasons, else the runtime's own words."""
    detail = said(message)
    if any(words in message for words in ("INVALID_PROTOBUF", "No graph was found", "MODEL_LOADED")):
        return f"{what} is not an ONNX graph, or is cut short; export it again ({detail})"
    if any(words in message for words in ("No Op registered", "not a registered function/op", "NOT_IMPLEMENTED")):
        return (
            f"{what} uses an operator that {device.runtime} {device.version} lacks on {device.name};"
            f" export with another opset or update onnxruntime ({detail})"
        )
    return f"{device.runtime} {device.version} cannot load {what}; check it with onnx.checker ({detail})"


def said(error: Exception | str) -> str:
    """The first line of what the runtime says, without its codes and the places in its source."""
    text = str(error).strip() or "no reason given"
    first = text.splitlines()[0].removeprefix("[ONNXRuntimeError] : ")
    told = re.sub(r"^\d+ : [A-Z_]+ : ", "", re.sub(r"/onnxruntime_src/\S+ ", "", first))
    return printable(told, 300)  # it repeats names that come from the file


def of_run(shape: Sequence[int]) -> str | None:
    """What to note about a number that is of one run, whose first input has this shape; None where that is one example."""
    if not shape or shape[0] <= 1:
        return None
    return f"of one run, which takes {shape[0]} " + ("images" if len(shape) == 4 else "along its input's first axis")


def example_inputs(loaded: ort.InferenceSession, batch: int = 1, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs that fit the graph's own specification: floats uniform in [0, 1), integers ones for masks and 0 or 1 for
    ids (valid in any vocabulary), a dynamic first axis set to `batch`.

    Raises:
        Unsupported: another dynamic axis, an input that is no dense tensor, or a fixed batch other than `batch`.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, NDArray[Any]] = {}
    for spec in loaded.get_inputs():
        if spec.type not in DTYPES:
            raise Unsupported(f"input {spec.name!r} is {spec.type}; inputs can be made for {', '.join(DTYPES)}")
        shape = _shape(spec.name, spec.shape, batch)
        dtype = DTYPES[spec.type]
        if np.issubdtype(dtype, np.floating):
            made[spec.name] = rng.random(shape).astype(dtype)
        else:
            low = 1 if "mask" in spec.name else 0
            made[spec.name] = rng.integers(low, 2, size=shape).astype(dtype)
    return made


def _shape(name: str, declared: list[int | str | None], batch: int) -> tuple[int, ...]:
    """`declared` with its batch axis filled in; the batch's symbol may come again on another axis."""
    if not declared:
        return ()
    declared = [None if isinstance(n, int) and n < 0 else n for n in declared]  # as some exporters write a dynamic axis
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
