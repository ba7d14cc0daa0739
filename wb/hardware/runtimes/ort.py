"""ONNX Runtime: runs graphs as they are, on the execution providers that are installed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from numpy.typing import NDArray

from wb.core.errors import BadArtefact, Unsupported
from wb.core.records import Precision
from wb.hardware.remote.plugins import registered
from wb.hardware.remote.runner import assigned, load
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.failures import why_not_loaded

REMOTE = ("AzureExecutionProvider",)  # calls a web service, so there is nothing to time on this machine


class OnnxRuntime:
    """ONNX Runtime, sequential execution, all optimisations."""

    name = "onnxruntime"
    kinds: Mapping[Precision, Way] = {"int8": "dynamic"}
    slow: str | None = None
    address: str | None = None
    rounds = False
    threads: int | None = None

    def version(self) -> str:
        """As `Runtime.version`."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`: the execution providers, `cpu` first."""
        return providers()

    def how(self) -> str:
        """As `Runtime.how`."""
        return "onnxruntime; run: pip install onnxruntime"

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: the graph itself."""
        del inputs
        return graph

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`."""
        what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
        provider = providers()[device]
        try:
            loaded: Loaded = load(graph if isinstance(graph, bytes) else str(graph), threads, provider)
        except Exception as error:  # the runtime's exceptions have no common base class
            known = f"{self.name} {self.version()}"
            raise BadArtefact(why_not_loaded(what, str(error), known, device, graph)) from error
        if loaded.get_providers()[0] != provider:  # type: ignore[attr-defined]  # it falls back to the CPU without an error
            raise Unsupported(
                f"onnxruntime could not start {provider} for {what}; check its driver, or use --device cpu"
            )
        return loaded

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`, after its optimisations that every processor shares. Versions before 1.24 do not tell."""
        content = graph if isinstance(graph, bytes) else str(graph)
        return dict(assigned(load(content, threads, providers()[device], assigned=True)))


@cache
def providers() -> dict[str, str]:
    """Short name -> execution provider of the installed onnxruntime, `cpu` first."""
    import onnxruntime

    others = {*REMOTE, *registered()}  # which are available too
    found = [p for p in onnxruntime.get_available_providers() if p not in others]
    names = {p.removesuffix("ExecutionProvider").lower(): p for p in found}
    return dict(sorted(names.items(), key=lambda item: (item[0] != "cpu", item[0])))
