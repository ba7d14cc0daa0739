"""One of the two that are compared, a model file or an ONNX graph, with what is known of it; and what both are run on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.specs import IDS, MASK, PIXELS
from wb.data import Feed, Split
from wb.data.preparation import Preparation
from wb.data.stratify import choose as stratified
from wb.export.exits.ways import refuse_exits
from wb.export.foreign.opening import file_size, open_graph, sidecars
from wb.export.foreign.stored import inputs
from wb.export.foreign.trial import LIMIT_S, try_out
from wb.export.graph import read_classes
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.jobs.calls.results import read_model
from wb.jobs.inputs import about
from wb.jobs.kinds import GRAPH, need
from wb.jobs.verbs.preparation import of_graph
from wb.models.counting import count_bytes, count_macs, count_parameters
from wb.models.feeds import made_up
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, Step

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_AT_ONCE = 64  # images
TOKENS = 4096  # each of which has as many scores as there are in the vocabulary: passages have no more together
MADE_UP = {"images": "images that are made up (uniform noise)", "texts": "texts that are made up (random tokens)"}

Shape = tuple[int | None, ...]  # channels, height, width; None where it is dynamic or not known


@dataclass(frozen=True)
class Examples:
    """Examples (n, ...) as networks take them (images in [0, 1], or ids that are negative at padding), and what they are called.

    `labels` (n,) are theirs, or (n, tokens) where each token has one; None of what is made up.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int64] | None
    name: str
    noun: str = "images"
    notes: list[str] = field(default_factory=list)

    def feed(self) -> Feed:
        """The same as graphs take them."""
        if self.inputs.dtype.kind == "f":
            return {PIXELS: self.inputs}
        return {IDS: self.inputs.clip(min=0), MASK: (self.inputs >= 0).astype(np.int64)}


def taken(split: Split, most: int, name: str, notes: list[str]) -> Examples:
    """At most so many examples of the split, stratified; the preparation of images is the matter of each network."""
    if split.labels.ndim > 1:
        most = max(1, min(most, TOKENS // split.labels.shape[1]))
        chosen = np.arange(min(most, len(split))) * len(split) // min(most, len(split))
    else:
        chosen = stratified(split.labels, most) if most < len(split) else np.arange(len(split))
    part = split.take(chosen)
    return Examples(part.inputs(), part.labels, name, part.noun, notes)


def of_tokens(architecture: Architecture, count: int, seed: int) -> Examples:
    """Random tokens: texts of any length, or passages, which are whole."""
    usual = architecture.input.usual_tokens or 1
    count = max(1, min(count, TOKENS // usual)) if architecture.causal else count
    found = {name: one.numpy() for name, one in made_up(architecture.input.specs(), count, seed, usual).items()}
    ends = 1 + np.random.default_rng(seed).integers(usual, size=(count, 1))
    counts = np.arange(usual) < (usual if architecture.causal else ends)
    noun = "passages" if architecture.causal else "texts"
    return Examples(np.where(counts, found[IDS], -1), None, MADE_UP["texts"].replace("texts", noun, 1), noun)


@dataclass(frozen=True)
class Side:
    """A model or graph. `weights` of a graph are its constants of floating-point numbers, by their names in the file.

    `model` is None for a graph, and `architecture` for one that is not the workbench's; `counted` are then its counts.
    """

    path: Path
    architecture: Architecture | None
    history: tuple[Step, ...]
    labels: tuple[str, ...]
    classes: int | None
    shape: Shape
    weights: Mapping[str, Tensor] = field(repr=False)
    inputs: int = 1
    model: Model | None = None
    counted: Mapping[str, Reading] = field(default_factory=dict)
    preparation: Preparation | None = None

    def counts(self) -> dict[str, Reading]:
        """Metrics that need no run, by name; a graph's may lack some."""
        a = self.architecture
        own = dict(self.counted)
        if a is not None:
            sublayers = sum(1 for _, _, block in a.blocks() for _ in block.parts())
            own = {
                "sub-layers": Reading(value=sublayers, unit="", how="counted"),
                "parameters": count_parameters(a),
                "MACs": count_macs(a),
                "weights": count_bytes(a),
            }
        if self.path.is_file():
            size = self.path.stat().st_size
            own["file"] = file_size(self.path) if self.model is None else Reading(value=size, unit="B", how="counted")
        return own

    def prepared(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images in [0, 1] as the network takes them."""
        return pixels if self.preparation is None else self.preparation(pixels)

    @property
    def texts(self) -> bool:
        """Whether it is a network of the workbench that takes texts."""
        return self.architecture is not None and self.architecture.input.usual_tokens is not None

    @property
    def continues(self) -> bool:
        """Whether it continues texts."""
        return self.architecture is not None and self.architecture.causal

    @property
    def tokenizer(self) -> str | None:
        """What its texts are written with, if that is known."""
        return tokenizer_of(self.history)

    def outputs(self, examples: Examples) -> NDArray[np.float32]:
        """The scores (n, classes), or of each token (n, tokens, vocabulary).

        Raises:
            BadArtefact, BadData: as `wb.export.run.Runner`.
        """
        if self.model is None:
            feed = {name: self.prepared(one) if name == PIXELS else one for name, one in examples.feed().items()}
            return Runner(self.path, Device(threads=torch.get_num_threads()))(feed)
        network, pixels = self.model.network(), examples.inputs
        with torch.no_grad():
            parts = [network(torch.from_numpy(pixels[i : i + _AT_ONCE])) for i in range(0, len(pixels), _AT_ONCE)]
        return np.asarray(torch.cat(parts).numpy())


def opened(path: Path, images: Preparation | None = None, run_limit: float | None = None) -> Side:
    """The model or graph at `path`; a graph that is not the workbench's gets `images` as they say, and is tried out first.

    Raises:
        BadArtefact: it is neither, or damaged.
        BadOption: `images` for a network of the workbench.
    """
    if path.suffix != ".onnx":
        model = read_model(path).model
        a = model.architecture
        texts = a.input.usual_tokens is not None
        shape = (None,) if texts else (a.image.channels, a.image.height, a.image.width)
        return Side(path, a, model.history, a.head.labels, a.head.classes, shape, model.weights, model=model)
    need(path, "onnx", expected=GRAPH)
    refuse_exits(path, "the comparison")
    graph = open_graph(path)
    architecture, history = about(path)
    trial = try_out(path, Device(), limit_s=LIMIT_S if run_limit is None else run_limit)
    names = {"params": "parameters", "macs": "MACs"}
    labels, classes = read_classes(path)
    return Side(
        path,
        architecture,
        history,
        labels,
        classes,
        _shape(graph),
        _constants(graph),
        len(inputs(graph)),
        counted={names.get(name, name): reading for name, reading in trial.readings.items()},
        preparation=of_graph(path, None if architecture is not None else images),
    )


def same_graph(a: Path, b: Path) -> bool:
    """Whether two graphs are the same but for their metadata, and the files beside them that hold weights."""
    return _bare(a) == _bare(b)


def _bare(path: Path) -> list[bytes]:
    """The graph without its metadata, and the digests of the files beside it in the order of their names."""
    graph = open_graph(path)
    beside = []
    for file in sidecars(graph, path):
        with file.open("rb") as content:
            beside.append(hashlib.file_digest(content, "sha256").digest())
    del graph.metadata_props[:]
    return [bytes(graph.SerializeToString(deterministic=True)), *beside]


def _shape(graph: onnx.ModelProto) -> Shape:
    first = next(iter(inputs(graph)), None)
    sizes = [] if first is None else [dim.dim_value or None for dim in first.type.tensor_type.shape.dim]
    return tuple(sizes[1:])


def _constants(graph: onnx.ModelProto) -> dict[str, Tensor]:
    """The floating-point constants of the main graph that lie in the file itself."""
    return {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in graph.graph.initializer
        if tensor.data_type in _FLOATS and tensor.data_location != TensorProto.EXTERNAL
    }
