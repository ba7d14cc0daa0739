"""A session of LiteRT with the methods of ONNX Runtime's; is sent to runners, and needs ai-edge-litert and numpy only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy

_TYPES = {"float32": "float", "float64": "double"}  # numpy's words -> those of ONNX Runtime, where these differ


class Session:
    """The interpreter of a `.tflite` file's content, with the names that its signature has."""

    def __init__(self, graph: Any, threads: int) -> None:
        interpreter = import_module("ai_edge_litert.interpreter").Interpreter
        given = {"model_content": graph} if isinstance(graph, bytes) else {"model_path": str(graph)}
        self._interpreter = interpreter(num_threads=threads, **given)
        self._interpreter.allocate_tensors()
        signature = self._interpreter.get_signature_runner()
        self._inputs, self._outputs = signature.get_input_details(), signature.get_output_details()

    def get_inputs(self) -> Sequence[Any]:
        """Name, type and shape of each, as attributes."""
        return [_described(*one) for one in self._inputs.items()]

    def get_outputs(self) -> Sequence[Any]:
        """The same of the outputs."""
        return [_described(*one) for one in self._outputs.items()]

    def get_modelmeta(self) -> Any:
        """Such a file says nothing besides."""
        return SimpleNamespace(custom_metadata_map={})

    def get_providers(self) -> Sequence[str]:
        """What runs it."""
        return ["litert"]

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """The outputs of that name, or all."""
        for name, values in inputs.items():
            self._interpreter.set_tensor(self._inputs[name]["index"], values)
        self._interpreter.invoke()
        wanted = self._outputs if outputs is None else outputs
        return [self._interpreter.get_tensor(self._outputs[name]["index"]) for name in wanted]


def load(graph: Any, threads: int, target: str) -> Session:
    """A session of a file or its content; it has one `target`, the processor."""
    del target
    return Session(graph, threads)


def _described(name: str, about: Mapping[str, Any]) -> SimpleNamespace:
    kind = numpy.dtype(about["dtype"]).name
    return SimpleNamespace(
        name=name, type=f"tensor({_TYPES.get(kind, kind)})", shape=[int(size) for size in about["shape"]]
    )
