"""Plugins of ONNX Runtime: execution providers of packages of their own, each device of theirs a device here.

Limits: with default options of the provider. Graphs are timed with fixed shapes; those that are scored there keep free axes, and
a provider may leave more of such a graph to the processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from wb.core.errors import BadArtefact, MissingExtra, Unsupported
from wb.core.records import Precision
from wb.hardware.remote.plugins import offered_by, plugins
from wb.hardware.remote.runner import assigned, load, processor
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.failures import said, why_not_loaded
from wb.hardware.runtimes.ort import OnnxRuntime
from wb.hardware.runtimes.shapes import shaped

PUBLISHED = ("onnxruntime-ep-openvino", "onnxruntime-ep-webgpu", "onnxruntime-ep-nv-tensorrt-rtx")


class Plugged(OnnxRuntime):
    """ONNX Runtime with a plugin's provider, sequential, all optimisations; what it does not take runs on the processor."""

    name = "onnxruntime-ep"
    kinds: Mapping[Precision, Way] = {}

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`."""
        return {name: place for one in plugins() for name, place in one.names.items()}

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: with the shapes of `inputs` in the place of dynamic ones."""
        return bytes(shaped(graph, inputs).SerializeToString())

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`. Raises `Unsupported` also where the provider takes no node: the processor would run all."""
        opened, what = self._opened(graph, device, threads), _called(graph)
        counts, provider = assigned(opened), self.devices()[device].rpartition(":")[2]
        if counts and provider not in counts:
            raise Unsupported(
                f"{device} takes none of the {sum(counts.values())} nodes of {what}: all would run on the processor. Use "
                "--device cpu"
            )
        return _Session(opened, what, device)

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`, after optimisations that every processor shares."""
        return dict(assigned(self._opened(graph, device, threads)))

    def _opened(self, graph: Graph, device: str, threads: int) -> Any:
        what, place = _called(graph), self.devices()[device]
        content = graph if isinstance(graph, bytes) else str(graph)
        try:
            return load(content, threads, place, assigned=True, device=offered_by(place))
        except Exception as error:  # the runtime's exceptions have no common base class
            if "CreateProvider" in str(error):
                raise Unsupported(
                    f"{device} offers a device, but cannot start it ({said(str(error).rpartition(': ')[2])}); check its driver"
                ) from error
            raise BadArtefact(
                why_not_loaded(what, str(error), f"onnxruntime {self.version()}", device, graph)
            ) from error


class _Session:
    """A session of the runtime whose failures are told in words for a user."""

    def __init__(self, opened: Any, what: str, device: str) -> None:
        self._opened, self._what, self._device = opened, what, device
        self.get_inputs, self.get_outputs = opened.get_inputs, opened.get_outputs
        self.get_modelmeta = opened.get_modelmeta

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """As `Loaded.run`. Raises `BadArtefact` where it fails."""
        try:
            return list(self._opened.run(outputs, inputs))
        except Exception as error:  # the runtime's exceptions have no common base class
            raise BadArtefact(
                f"{self._what} loads on {self._device}, but fails when it runs ({said(error)}); check its driver and its free "
                "memory, or use --device cpu"
            ) from error


def _called(graph: Graph) -> str:
    return "the graph in memory" if isinstance(graph, bytes) else str(graph)


def described(device: str) -> dict[str, Any]:
    """The processor and the version of a plugin's device, as fields of `wb.hardware.device.Device`; none for any other."""
    for one in plugins():
        for name, place in one.names.items():
            if name == device:
                kind, short = place.split(":")[1], one.package.removeprefix("onnxruntime-ep-")
                release = f"{short} {one.version} in onnxruntime {Plugged().version()}"
                return {"processor": f"{kind} of {one.devices[kind]}, {processor()}", "version": release}
    return {}


def check_plugged(device: str) -> None:
    """Says why a name is that of no plugin's device, where it is one of a plugin.

    Raises:
        MissingExtra: the plugin is not installed.
        Unsupported: it offers no such device here, or only a simulator.
    """
    if device == "qnn":
        raise Unsupported(
            "nothing is timed on a simulator; what Qualcomm's NPUs take of a network says wb device check --npu qnn MODEL"
        )
    if not device.startswith("ep-"):
        return
    for one in plugins():
        if f"onnxruntime-{device}".startswith(one.package):
            offers = f"it offers {', '.join(one.names)}" if one.names else one.why
            raise Unsupported(f"{one.package} {one.version} is installed, but there is no device {device}: {offers}")
    for package in PUBLISHED:  # the name of any other package would be a guess
        if f"onnxruntime-{device}".startswith(package):
            raise MissingExtra(f"--device {device} needs {package}, which is not installed; run: pip install {package}")
