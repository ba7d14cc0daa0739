"""Qualcomm's compiler for NPUs and its simulator, from the wheel onnxruntime-qnn: what they take of a graph and compute."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from wb.core.errors import BadArtefact, BadOption, MissingExtra, Unsupported
from wb.core.system.files import scratch
from wb.export.npu.simulator import MODULE, PROVIDER
from wb.hardware.runtimes.failures import said

PACKAGE = "onnxruntime-qnn"
SILENCE_S = 1800.0  # of the compiler, or of one simulated run, until it is taken to hang
CONVERSIONS = (
    "QuantizeLinear",
    "DequantizeLinear",
)  # of inputs and outputs, which a quantized graph leaves to the processor


class Soc(NamedTuple):
    """A processor: Qualcomm's number of it, the generation of its NPU, and what it is sold as."""

    model: int
    arch: int
    sold_as: str


# Those that the simulator of release 2.7 was tried with. It compiles nothing for older NPUs than 69.
SOCS: Mapping[str, Soc] = {
    "sm8450": Soc(36, 69, "Snapdragon 8 Gen 1"),
    "sm8475": Soc(42, 69, "Snapdragon 8+ Gen 1"),
    "sm8550": Soc(43, 73, "Snapdragon 8 Gen 2"),
    "sc8380xp": Soc(60, 73, "Snapdragon X Elite"),
    "sm8650": Soc(57, 75, "Snapdragon 8 Gen 3"),
    "sm8750": Soc(69, 79, "Snapdragon 8 Elite"),
    "sm8850": Soc(87, 81, "Snapdragon 8 Elite Gen 5"),
}
SOC = "sm8550"


class Simulation(NamedTuple):
    """A graph after compilation and simulated runs.

    `nodes` is processor -> operator -> number of its nodes; `outputs` (runs, ...) are those of the simulator, None where the
    compiler, or a run, failed, and `failure` says why.
    """

    nodes: Mapping[str, Mapping[str, int]]
    outputs: NDArray[np.float32] | None
    failure: str = ""

    @property
    def taken(self) -> int:
        """The number of nodes on the NPU."""
        return sum(self.nodes.get(PROVIDER, {}).values())

    @property
    def left(self) -> dict[str, int]:
        """Operator -> number of nodes on another processor."""
        counts: dict[str, int] = {}
        for processor, operators in self.nodes.items():
            for operator, count in operators.items() if processor != PROVIDER else ():
                counts[operator] = counts.get(operator, 0) + count
        return counts

    @property
    def whole(self) -> bool:
        """Whether all is on the NPU but for the conversions of a quantized graph's inputs and outputs."""
        return self.taken > 0 and set(self.left) <= set(CONVERSIONS)


def soc_of(name: str) -> Soc:
    """The processor of that name. Raises `BadOption` for one that was not tried."""
    if name not in SOCS:
        known = ", ".join(f"{key} ({soc.sold_as})" for key, soc in SOCS.items())
        raise BadOption(f"--soc {name} is none that the compiler was tried with; there are {known}")
    return SOCS[name]


def check_installed() -> str:
    """The version of the wheel.

    Raises:
        MissingExtra: it is not installed.
        Unsupported: this machine has no simulator.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise Unsupported(f"Qualcomm's simulator runs on x86 processors, and this one is {platform.machine()}")
    if find_spec(MODULE) is None:
        raise MissingExtra(
            f"--npu qnn needs Qualcomm's compiler, which is not installed; run: pip install {PACKAGE} (245 MB, a plugin beside "
            "the onnxruntime that is here). Its libraries are under a licence of Qualcomm's, Qualcomm_LICENSE.pdf in the package"
        )
    try:
        return version(PACKAGE)
    except PackageNotFoundError:  # it lies on the path without being installed
        return "of unknown version"


def simulate(
    graph: bytes,
    inputs: Mapping[str, NDArray[np.generic]],
    output: str,
    soc: Soc,
    compiled: Path,
    ran: Callable[[int], None],
) -> Simulation:
    """Compiles a graph of fixed shapes, and runs it on the rows of `inputs` (runs, ...) in a process of its own.

    The compiled file goes to `compiled`, if something was. `ran` is told the number of runs so far, 0 after compilation.

    Raises:
        BadArtefact: the process answers nonsense.
    """
    with scratch() as folder:
        paths = {name: folder / file for name, file in _FILES.items()} | {"compiled": compiled}
        paths["graph"].write_bytes(graph)
        np.savez(paths["inputs"], **inputs)  # type: ignore[arg-type]  # names, not options
        order = {name: str(path) for name, path in paths.items()}
        order |= {"output": output, "soc": str(soc.model), "arch": str(soc.arch)}
        nodes, failure = _ask(json.dumps(order), ran)
        outputs = None if failure else np.load(paths["outputs"], allow_pickle=False).astype(np.float32)
    return Simulation(nodes, outputs, failure)


_FILES = {"graph": "graph.onnx", "inputs": "inputs.npz", "outputs": "outputs.npy"}
COMMAND = (sys.executable, "-P", "-m", "wb.export.npu.simulator")  # -P: nothing is imported from the working directory


def _ask(order: str, ran: Callable[[int], None]) -> tuple[Mapping[str, Mapping[str, int]], str]:
    """What the other process says: the nodes, and why it failed, if it did."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    nodes: Mapping[str, Mapping[str, int]] = {}
    with subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdin is not None  # a pipe
        try:
            process.stdin.write(order)
            process.stdin.close()
            while line := _line(process):
                answer = _Answer.model_validate_json(line)
                if answer.error:
                    return nodes, said(answer.error)
                if answer.done:
                    return nodes, ""
                nodes = answer.nodes if answer.nodes is not None else nodes
                ran(answer.ran)
            code = process.wait()
        except (ValidationError, BrokenPipeError) as error:
            raise BadArtefact(f"the process of the simulator answers nonsense ({said(error)}); try again") from error
        finally:
            process.kill()
    killed = f", killed as it was silent for {SILENCE_S:g} s, or for want of memory" if code == -9 else ""
    return nodes, f"the {'simulator' if nodes else 'compiler'} ended its process (exit code {code}{killed})"


def _line(process: subprocess.Popen[str]) -> str:
    """The next line, empty at the end; the process is ended where it is silent for too long."""
    assert process.stdout is not None  # a pipe
    ending = threading.Timer(SILENCE_S, process.kill)
    ending.daemon = True
    ending.start()
    try:
        return process.stdout.readline()
    finally:
        ending.cancel()


class _Answer(BaseModel):
    nodes: dict[str, dict[str, int]] | None = None
    ran: int = Field(default=0, ge=0)
    done: bool = False
    error: str = ""
