"""A graph for another runtime than ONNX Runtime: made for it, loaded, and compared, before anything of it is timed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadArtefact
from wb.hardware.runtimes.base import Graph, Loaded
from wb.hardware.runtimes.known import runtime
from wb.hardware.runtimes.litert import drop

if TYPE_CHECKING:
    from wb.hardware.device import Device

ALIKE = 0.01  # of the outputs' root mean square, in floating point; two runtimes sum in other orders
ROUNDED = 0.3  # and where numbers are rounded to few bits: another order then rounds some of them to the next step


class Conversion(NamedTuple):
    """The graph as the device's runtime loads it, its inputs, and how far its outputs are from those of ONNX Runtime."""

    graph: Graph
    inputs: Mapping[str, NDArray[Any]]
    device: Device
    error: float
    what: str

    @property
    def note(self) -> str:
        """The difference in words."""
        return f"outputs differ from onnxruntime's by {self.error:.2g} of their root mean square"

    def load(self) -> Loaded:
        """A new session of it, there if the device is elsewhere."""
        if self.device.address is not None:
            from wb.hardware.remote.session import Remote  # which needs this module's neighbours

            return Remote(self.graph, self.what, self.device)
        return runtime(self.device.runtime).load(self.graph, self.device.name, self.device.threads)


def converted(graph: Graph, device: Device, reference: Loaded, inputs: Mapping[str, NDArray[Any]]) -> Conversion:
    """Prepares a graph for the runtime of `device`, and compares it on `inputs` with the session `reference` of ONNX Runtime.

    Raises:
        BadArtefact: the runtime lacks something of it, or computes something else.
    """
    what = "the graph in memory" if isinstance(graph, bytes) else str(graph)
    made = Conversion(runtime(device.runtime).prepare(graph, inputs), inputs, device, 0.0, what)
    names = [output.name for output in reference.get_outputs()]
    loaded, expected = made.load(), reference.run(names, inputs)
    error = max(map(_difference, loaded.run(names, inputs), expected), default=0.0)
    limit = ROUNDED if runtime(device.runtime).rounds or _rounded(graph) else ALIKE
    if not error <= limit:
        drop(made.graph)
        raise BadArtefact(
            f"{device.runtime} {device.version} computes something else of {what} than onnxruntime: outputs differ by "
            f"{error:.2g} of their root mean square, where {limit:g} is allowed; nothing was timed. Try --device cpu, and "
            "report the graph"
        )
    return made._replace(error=error)


def _difference(given: NDArray[Any], expected: NDArray[Any]) -> float:
    """The root mean square of the difference over that of what is expected; infinite for another shape, or no numbers."""
    if np.shape(given) != np.shape(expected):
        return float("inf")
    wanted = np.asarray(expected, np.float64)
    apart = float(np.sqrt(np.mean((np.asarray(given, np.float64) - wanted) ** 2))) if wanted.size else 0.0
    whole = float(np.sqrt(np.mean(wanted**2))) if wanted.size else 0.0
    return apart / whole if whole else (0.0 if apart == 0 else float("inf"))


def _rounded(graph: Graph) -> bool:
    """Whether the graph computes with fewer bits than it is given."""
    import onnx

    model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph, load_external_data=False)
    return any(
        "Quantize" in node.op_type or "Integer" in node.op_type or "NBits" in node.op_type for node in model.graph.node
    )
