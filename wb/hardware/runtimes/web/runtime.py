"""ONNX Runtime Web on the processor: WebAssembly with SIMD in node, as browsers run it.

Differs: a sample is taken by node's clock, in node, between two of the reference graph here; outputs are made anew in every run,
as they are for a page. Browsers have other engines and other versions of this one.
Limits: one thread, and its graph in memory twice. Not WebGPU, WebGL or WebNN, which node has not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wb.core.errors import BadArtefact
from wb.core.records import Precision
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.failures import said, why_not_loaded
from wb.hardware.runtimes.web import place
from wb.hardware.runtimes.web.web_session import Session


class Web:
    """ONNX Runtime Web in node, one thread, all optimisations."""

    name = "web"
    kinds: Mapping[Precision, Way] = {"int8": "dynamic"}
    slow: str | None = None
    address: str | None = None
    rounds = False
    threads: int | None = 1

    def version(self) -> str:
        """As `Runtime.version`: also that of node, whose engine compiles it."""
        return place.version()

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`."""
        return {"web": f"Web {place.folder()}"} if place.there() else {}

    def how(self) -> str:
        """As `Runtime.how`."""
        return place.how()

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: the graph itself, with what lies beside its file."""
        del inputs
        return content_of(graph)

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`."""
        del threads
        what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
        try:
            content = content_of(graph)
        except Exception as error:  # protobuf's own, and the system's
            raise BadArtefact(f"{what} cannot be read as an ONNX graph ({said(error)}); export it again") from error
        try:
            return _Session(content, self.devices()[device].partition(" ")[2])
        except RuntimeError as error:
            known = f"onnxruntime-web {self.version()}"
            raise BadArtefact(why_not_loaded(what, str(error), known, device, graph)) from error

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`: it does not tell."""
        del graph, device, threads
        return {}


class _Session(Session):
    """One whose failures are told in words for a user."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """As `Loaded.run`. Raises `BadArtefact` where it fails."""
        try:
            return super().run(outputs, inputs)
        except RuntimeError as error:
            raise _fails(error) from error

    def timed(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]], runs: int) -> tuple[float, float]:
        """As `Session.timed`. Raises `BadArtefact` where it fails."""
        try:
            return super().timed(outputs, inputs, runs)
        except RuntimeError as error:
            raise _fails(error) from error


def content_of(graph: Graph) -> bytes:
    """What is loaded of a graph: one file, with weights that lie beside it."""
    if isinstance(graph, bytes):
        return graph
    import onnx

    content = Path(graph).read_bytes()
    bare = onnx.load_from_string(content)
    if any(one.data_location == onnx.TensorProto.EXTERNAL for one in bare.graph.initializer):
        return bytes(onnx.load(graph).SerializeToString())
    return content


def _fails(error: RuntimeError) -> BadArtefact:
    return BadArtefact(f"onnxruntime-web fails on the graph's inputs ({said(error)}); export it again")
