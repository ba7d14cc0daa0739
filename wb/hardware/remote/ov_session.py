"""A session of OpenVINO with the methods of ONNX Runtime's; is sent to devices too, and needs openvino and numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy

# Its words for the types of inputs -> those of ONNX Runtime.
_TYPES = {
    "f32": "float",
    "f16": "float16",
    "f64": "double",
    "boolean": "bool",
    **{f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("i", "int"), ("u", "uint")) for bits in (8, 16, 32, 64)},
}


class Session:
    """A compiled graph, a file or bytes: one stream, float32 unless the graph itself has fewer bits."""

    def __init__(self, graph: Any, threads: int, target: str) -> None:
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
        """Name, type and shape of each, as attributes."""
        return [_described(one) for one in self.compiled.inputs]

    def get_outputs(self) -> Sequence[Any]:
        """The same of the outputs."""
        return [_described(one) for one in self.compiled.outputs]

    def get_modelmeta(self) -> Any:
        """A compiled graph says nothing besides."""
        return SimpleNamespace(custom_metadata_map={})

    def get_providers(self) -> Sequence[str]:
        """What runs it."""
        return ["openvino"]

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of that name, or all."""
        self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
        places = self._places.values() if outputs is None else [self._places[name] for name in outputs]
        # The next run overwrites its memory.
        return [numpy.array(self._request.get_output_tensor(place).data) for place in places]


def load(graph: Any, threads: int, target: str) -> Session:
    """A session of a graph's file or bytes."""
    return Session(graph, threads, target)


@cache
def _core() -> Any:
    return import_module("openvino").Core()


def _name(port: Any) -> str:
    return str(port.any_name) if port.get_names() else ""


def _described(port: Any) -> SimpleNamespace:
    kind = str(port.get_element_type().get_type_name())
    shape = [int(size.get_length()) if size.is_static else None for size in port.get_partial_shape()]
    return SimpleNamespace(name=_name(port), type=f"tensor({_TYPES.get(kind, kind)})", shape=shape)
