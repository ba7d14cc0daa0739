"""OpenVINO: reads ONNX graphs, and compiles them for inputs of fixed shapes.

Differs: computes in float32 where nothing else is asked for; its own default is bfloat16 where the processor has that, with
outputs that are off by up to a hundredth.
Limits: of its devices only the processor is offered. Graphs in dynamic int8 run, but slower than in floating point: its fast
products have fixed ranges of activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from wb.core.errors import BadArtefact
from wb.core.records import Precision
from wb.hardware.remote.ov_session import Session
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.failures import said, why_not_loaded
from wb.hardware.runtimes.shapes import shaped


class OpenVino:
    """OpenVINO on the processor, one stream, float32 unless the graph itself has fewer bits."""

    name = "openvino"
    kinds: Mapping[Precision, Way] = {"int8": "static"}
    slow: str | None = None
    address: str | None = None
    rounds = False
    threads: int | None = None

    def version(self) -> str:
        """As `Runtime.version`."""
        try:
            return version("openvino")
        except PackageNotFoundError:  # it lies on the path without being installed
            return str(import_module("openvino").__version__).partition("-")[0]

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`."""
        return {"openvino": "CPU"} if find_spec("openvino") is not None else {}

    def how(self) -> str:
        """As `Runtime.how`."""
        return "openvino; run: pip install 'wb[openvino]'"

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: with the shapes of `inputs` in the place of dynamic ones."""
        return bytes(shaped(graph, inputs).SerializeToString())

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`."""
        what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
        try:
            return _Session(graph, threads, self.devices()[device])
        except RuntimeError as error:
            known = f"{self.name} {self.version()}"
            raise BadArtefact(why_not_loaded(what, str(error), known, device, graph)) from error

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`: all on the one processor that it was compiled for, as fused operators."""
        found = _Session(graph, threads, self.devices()[device]).compiled
        left = ("Parameter", "Result", "Constant", "Const", "Input", "Output")
        kinds = Counter(node.get_rt_info()["layerType"].astype(str) for node in found.get_runtime_model().get_ops())
        return {self.devices()[device]: sum(count for kind, count in kinds.items() if kind not in left)}


class _Session(Session):
    """One whose failures are told in words for a user."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """As `Loaded.run`. Raises `BadArtefact` where it fails."""
        try:
            return super().run(outputs, inputs)
        except RuntimeError as error:
            raise BadArtefact(f"openvino fails on the graph's inputs ({said(error)}); export it again") from error
