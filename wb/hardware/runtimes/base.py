"""What a runtime is, and a graph that it has loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from wb.core.records import Precision

Graph = Path | bytes  # an ONNX file, or its content
Way = Literal["dynamic", "static"]  # ranges of activations are found in every run, or were found before


class Loaded(Protocol):
    """A graph that is ready to run, with the methods of ONNX Runtime's sessions that are used here."""

    def get_inputs(self) -> Sequence[Any]:
        """Name, type and shape of each input, as attributes; types in the words of ONNX Runtime."""

    def get_outputs(self) -> Sequence[Any]:
        """The same of the outputs."""

    def get_modelmeta(self) -> Any:
        """What the graph's file says besides, in its attribute `custom_metadata_map`."""

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """The outputs of that name, or all."""


class Runtime(Protocol):
    """A library that runs graphs on this machine.

    `kinds` says which precisions of a graph's weights it has fast products for, and how activations have to be quantized for
    them; whoever chooses precisions asks it. `slow` says why it is for finished networks and not for the candidates of a search,
    None where it is for both. `address` is where it runs in an environment of its own; None where that is this process.
    It `rounds` if it computes with fewer bits than the graph has. `threads` is the most that it has, None where that is for the
    machine to say.
    """

    name: str
    kinds: Mapping[Precision, Way]
    slow: str | None
    address: str | None
    rounds: bool
    threads: int | None

    def version(self) -> str:
        """Its version, which is part of a device's key."""

    def devices(self) -> Mapping[str, str]:
        """Name for `--device` -> its own name of what runs there; none where the library is not installed."""

    def how(self) -> str:
        """What is missing where it is not installed, and the commands that bring it."""

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """The graph as it loads it, for inputs of these shapes. Raises `BadArtefact` where it cannot be made."""

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """Loads what `prepare` gave on one of its `devices`.

        Raises:
            BadArtefact: the graph is damaged, or has an operator or an operator set that the runtime lacks.
            Unsupported: the device cannot be started.
        """

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """Processor -> number of the nodes that it runs, of a graph that loads; none where the runtime does not tell."""
