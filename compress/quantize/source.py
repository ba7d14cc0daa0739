"""The source of a quantization: the float graph or model with its data, and how a policy is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import onnx
from pydantic import JsonValue

from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.subject import Choice, Subject
from wb.compress.quantize.record import Group
from wb.core.architecture import Architecture
from wb.core.precision import with_precisions
from wb.core.records import Precision
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.data.preparation import Preparation
from wb.export.graph import IMAGES, export
from wb.export.lowering.tied import BLOCK
from wb.export.writing import tidy
from wb.models.files.history import nameless, public
from wb.models.model import Model, Step, save

KEPT = "kept by --keep"
# ONNX Runtime 1.32 (ConvInteger) finds activation ranges at run time. It takes 1.4 ms longer for the stem of a ViT-Tiny, and of
# all groups the stem then adds the largest error.
SLOW_CONVOLUTION = "8-bit convolutions are slower, as the runtime finds their ranges in every run"
NO_KERNEL = "convolutions have no kernel for 4 bits"
REFUSED = "the runtime refuses it in fewer bits"
UNEVEN = f"a table that is looked up in has no rows of whole blocks of {BLOCK}"
BATCHED = "weights of more than two dimensions have no kernel for 4 bits"


@dataclass(frozen=True)
class Source:
    """The subject, the path of a foreign graph, the data to score on, calibration inputs, and groups kept in floating point.

    `images` is how images are prepared for a foreign graph, if that is known. `fresh` are inputs kept out of the calibration.
    """

    subject: Subject
    path: Path | None
    data: Dataset | None
    inputs: Inputs | None
    kept: frozenset[str]
    images: Preparation | None = None
    fresh: Inputs | None = None

    @property
    def architecture(self) -> Architecture | None:
        """The model's architecture in floating point; None for a foreign graph."""
        return None if self.subject.model is None else self.subject.model.architecture

    @contextmanager
    def float_file(self) -> Iterator[Path]:
        """The graph file in floating point: the export of a model, or else the given file."""
        if self.subject.model is None:
            yield self.path or Path()
            return
        with scratch() as folder:
            path = folder / "float.onnx"
            path.write_bytes(self._exported)
            yield path

    @cached_property
    def _exported(self) -> bytes:
        """The exported model in floating point, cached because it is read several times."""
        with scratch() as folder:
            export(self._model(), folder / "float.onnx")
            return (folder / "float.onnx").read_bytes()

    def uniform(self, precision: Precision, *, convolutions: bool = True) -> dict[str, Precision]:
        """`precision` for every group that can have it and is not kept; `convolutions=False` leaves convolutions out."""
        options = self.subject.options
        able = [group for group in self.subject.groups if group not in self.kept and precision in options[group]]
        return {group: precision for group in able if convolutions or not self.subject.convolution(group)}

    def uniform_reasons(self, precision: Precision) -> dict[str, str]:
        """By group, why it stays in floating point when all others get `precision`."""
        convolution = SLOW_CONVOLUTION if precision == "int8" else NO_KERNEL

        def why(group: str) -> str:
            if self.subject.convolution(group):
                return convolution
            return UNEVEN if any(self.subject.products[node].tied for node in self.subject.groups[group]) else BATCHED

        return {group: self.subject.refusals.get(group) or why(group) for group in self.subject.groups}

    def quantized(self, choice: Choice, step: Step) -> Model:
        """The workbench model with the chosen precisions, and `step` in its history."""
        model = self._model()
        return replace(model, architecture=with_precisions(model.architecture, choice)).then(step)

    def write(self, choice: Choice, step: Step, path: Path) -> Architecture | None:
        """Writes the graph with the precisions of `choice`, and beside it the model file, if one describes the graph.

        Raises:
            ExportDiffers, Unsupported: as `wb.export.graph.export` and `wb.export.lowering.lower.lower`.
        """
        if self.subject.model is None:
            graph = self.subject.lowered(choice)
            sign(graph, None, step, self.images)
            onnx.save(graph, path)
            return None
        if self.subject.ranges is not None:  # which no model file has
            return self.write_graph(self.subject.lowered(choice), choice, step, path)
        model = self.quantized(choice, step)
        export(model, path, force=True)
        save(model, path.with_suffix(".safetensors"), force=True)
        return model.architecture

    def write_graph(self, graph: onnx.ModelProto, choice: Choice, step: Step, path: Path) -> Architecture | None:
        """Writes a graph that no model file describes; `choice` goes into its metadata."""
        model = None if self.subject.model is None else self.quantized(choice, step)
        sign(graph, model, step, self.images)
        onnx.save(graph, path)
        return None if model is None else model.architecture

    def groups(self, choice: Choice, reasons: Mapping[str, str]) -> tuple[Group, ...]:
        """Every group with its precision, its number of weights, and the reason if it stays in floating point."""
        found = []
        for name, nodes in self.subject.groups.items():
            precision = choice.get(name, "fp32")
            why = KEPT if name in self.kept else reasons.get(name) if precision == "fp32" else None
            weights = sum(self.subject.products[node].numbers for node in nodes)
            found.append(Group(name=name, precision=precision, weights=weights, reason=why))
        return tuple(found)

    def _model(self) -> Model:
        if self.subject.model is None:
            raise TypeError("a foreign graph is no model")
        return self.subject.model


def sign(graph: onnx.ModelProto, model: Model | None, step: Step | None, images: Preparation | None = None) -> None:
    """Writes the graph's metadata: a model's as `wb.export.graph.export` does; a foreign graph keeps its own plus the step.

    The architecture in a foreign graph is removed, because it would say that all weights are in floating point. The preparation
    `images` is stored if it is known, so that the graph gets the same images from now on.
    """
    tidy(graph)
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    before: list[JsonValue] = []
    if model is None:
        metadata.pop("wb.architecture", None)
        before = json.loads(metadata.get("wb.history", "[]"))
        history = [*nameless(before), *public([] if step is None else [step])]
        if images is not None:
            metadata[IMAGES] = images.model_dump_json()
    else:
        history = public(model.history)
        metadata["wb.labels"] = json.dumps(model.architecture.head.labels)
        metadata["wb.architecture"] = model.architecture.to_json()
    metadata["wb.history"] = json.dumps(history)
    del graph.metadata_props[:]
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
