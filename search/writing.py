"""The graphs of a network for the runtimes that time it: each gets activations quantized as it is fast with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import onnx

from wb.compress.ptq.calibration import of_images
from wb.compress.ptq.subject import of_model
from wb.compress.quantize.source import sign
from wb.core.architecture import Architecture
from wb.core.precision import TRAINED, precisions
from wb.data import Dataset
from wb.export.graph import export
from wb.hardware.runtimes.base import Way
from wb.models.model import Model

CALIBRATION = 64  # training images that ranges are found on


def depends(architecture: Architecture) -> bool:
    """Whether the way matters: the network has weights in int8, and none that are trained in fewer bits."""
    found = set(precisions(architecture).values())
    return "int8" in found and not found & set(TRAINED)


def write_graph(model: Model, path: Path, way: Way, data: Dataset, seed: int) -> None:
    """Writes the graph of `model`, as `wb.export.graph.export` does, with fixed ranges where the `way` is static.

    Raises:
        ExportDiffers: the exported graph does not compute what the model does.
        Unsupported: it cannot be lowered.
    """
    if way == "dynamic" or not depends(model.architecture):
        export(model, path, force=True)
        return
    subject = of_model(model)
    inputs = of_images(subject.graph, data.train, CALIBRATION, seed)
    choice = {
        group: precision for group, precision in precisions(model.architecture).items() if group in subject.groups
    }
    graph = replace(subject, ranges=inputs, every=True).lowered(choice)
    sign(graph, model, None)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, path)


def write_graphs(model: Model, path: Path, ways: Collection[Way], data: Dataset, seed: int) -> Mapping[Way, Path]:
    """Writes a graph for each of `ways`, the first at `path`, or one if they do not differ. Raises as `write_graph`."""
    first, *others = dict.fromkeys(ways)
    write_graph(model, path, first, data, seed)
    if not depends(model.architecture):
        return dict.fromkeys(ways, path)
    found: dict[Way, Path] = {first: path}
    for way in others:
        found[way] = path.with_name(f"{path.stem}.{way}.onnx")
        write_graph(model, found[way], way, data, seed)
    return found
