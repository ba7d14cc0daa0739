"""OpenVINO: reads ONNX graphs, and compiles them for inputs of fixed shapes.

Differs: computes in float32 where nothing else is asked for; its own default is bfloat16 where the processor has that, with
outputs that are off by up to a hundredth.
Limits: of its devices only the processor is offered. Graphs in dynamic int8 run, but slower than in floating point: its fast
products have fixed ranges of activations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadArtefact
from wb.core.records import Precision
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.failures import said, why_not_loaded

# Its words for the types of inputs -> those of ONNX Runtime.
_TYPES = {
    "f32": "float",
    "f16": "float16",
    "f64": "double",
    "boolean": "bool",
    **{f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)},
}


class OpenVino:
    """OpenVINO on the processor, one stream, float32 unless the graph itself has fewer bits."""

    name = "openvino"
    kinds: Mapping[Precision, Way] = {"int8": "static"}

    def version(self) -> str:
        """As `Runtime.version`."""
        try:
            return version("openvino")
        except PackageNotFoundError:  # it lies on the path without being installed
            return str(_library().__version__).partition("-")[0]

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`."""
        return {"openvino": "CPU"} if find_spec("openvino") is not None else {}

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: with the shapes of `inputs` in the place of dynamic ones."""
        import onnx

        model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph)
        for one in model.graph.input:
            if one.name in inputs:
                del one.type.tensor_type.shape.dim[:]
                for size in inputs[one.name].shape:
                    one.type.tensor_type.shape.dim.add(dim_value=size)
        for value in (*model.graph.output, *model.graph.value_info):
            value.type.tensor_type.ClearField("shape")
        return bytes(model.SerializeToString())

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`."""
        what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
        try:
            return _Session(graph, self.devices()[device], threads)
        except RuntimeError as error:
            known = f"{self.name} {self.version()}"
            raise BadArtefact(why_not_loaded(what, str(error), known, device, graph)) from error

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`: all on the one processor that it was compiled for, as fused operators."""
        found = _Session(graph, self.devices()[device], threads).compiled
        left = ("Parameter", "Result", "Constant", "Const", "Input", "Output")
        kinds = Counter(node.get_rt_info()["layerType"].astype(str) for node in found.get_runtime_model().get_ops())
        return {self.devices()[device]: sum(count for kind, count in kinds.items() if kind not in left)}


class _Session:
    """A compiled graph, with the methods of ONNX Runtime's sessions."""

    def __init__(self, graph: Graph, target: str, threads: int) -> None:
        core = _core()
        model = core.read_model(graph if isinstance(graph, bytes) else str(graph))
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,  # a device's cores are pinned by whoever measures
        }
        self.compiled = core.compile_model(model, target, options)
        self._request = self.compiled.create_infer_request()
        self._places = {_name(output): i for i, output in enumerate(self.compiled.outputs)}

    def get_inputs(self) -> Sequence[Any]:
        """As `Loaded.get_inputs`."""
        return [_described(one) for one in self.compiled.inputs]

    def get_outputs(self) -> Sequence[Any]:
        """As `Loaded.get_outputs`."""
        return [_described(one) for one in self.compiled.outputs]

    def get_modelmeta(self) -> Any:
        """As `Loaded.get_modelmeta`: a compiled graph has none."""
        return SimpleNamespace(custom_metadata_map={})

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """As `Loaded.run`. Raises `BadArtefact` where it fails."""
        try:
            self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise BadArtefact(f"openvino fails on the graph's inputs ({said(error)}); export it again") from error
        places = self._places.values() if outputs is None else [self._places[name] for name in outputs]
        # The next run overwrites its memory.
        return [np.array(self._request.get_output_tensor(place).data) for place in places]


@cache
def _core() -> Any:
    return _library().Core()


def _library() -> Any:
    return import_module("openvino")


def _name(port: Any) -> str:
    return str(port.any_name) if port.get_names() else ""


def _described(port: Any) -> SimpleNamespace:
    kind = str(port.get_element_type().get_type_name())
    shape = [int(size.get_length()) if size.is_static else None for size in port.get_partial_shape()]
    return SimpleNamespace(name=_name(port), type=f"tensor({_TYPES.get(kind, kind)})", shape=shape)
