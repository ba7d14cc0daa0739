"""Export of a model to an ONNX file, with a proof that the file computes the same as the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, WbError
from wb.core.measures.readings import Reading
from wb.core.precision import computes_weights
from wb.core.records import Precision
from wb.core.specs import BATCH
from wb.core.system.files import replacing
from wb.data.preparation import Preparation, read_stored
from wb.export.decoder import check_steps, traced
from wb.export.foreign.opening import open_graph, read_metadata
from wb.export.foreign.stored import inputs
from wb.export.lowering.lower import lower_file
from wb.export.refusal import check_exportable
from wb.export.run import Runner
from wb.export.writing import quieted, write
from wb.hardware.device import TOKENS_KEY, Device
from wb.models.feeds import made_up
from wb.models.files.history import public, tokenizer_of
from wb.models.groups import kept, settle
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model
from wb.models.network import Network

IMAGES = "wb.images"  # metadata of a foreign network: the preparation of its images
LENGTH_KEY = "wb.length"  # and its longest text, in tokens
TOKENIZER_KEY = "wb.tokenizer"  # metadata of a graph for texts: the tokenizer as JSON
Exporter = Literal["torchscript", "dynamo"]
LOGITS = "logits"  # the output of the workbench's graphs
OPSET = 20  # the first opset with Gelu, and one that quantizers support
TOLERANCE = (
    1e-4  # largest difference between a logit of torch and of the runtime, times max(1, an image's largest |logit|)
)
ROUNDED = "weights in int8 and int4 are rounded in the graph only"


class ExportDiffers(WbError, ArithmeticError):
    """The exported graph does not compute what the model computes."""


def export(
    model: Model, path: Path, *, opset: int = OPSET, exporter: Exporter = "torchscript", force: bool = False
) -> Reading:
    """Writes `model` as an ONNX graph: `pixel_values` (batch, channels, height, width) in [0, 1] -> `logits`.

    A network for texts takes `input_ids` and `attention_mask` (batch, tokens); any number of tokens up to the longest, and the
    tokenizer is in the metadata. One that foresees tokens also takes and gives what it keeps of those before
    (`wb.export.decoder`).

    Normalisation is inside, the batch is dynamic, weights are in the file. Class names, architecture and history are its
    metadata; the history is without readings, so that the file's size does not depend on them, and without paths of files
    (`wb.models.files.history.public`). The TorchScript exporter is the default because it takes a tenth of a second where
    dynamo takes several, and the runtime runs both graphs equally fast. Groups in fewer bits are lowered after the
    comparison with torch (`wb.export.lowering.lower`). Returns the largest difference between the logits of file and model;
    in int8 and int4 it may be large, as its note says.

    Raises:
        BadOption: the file exists and `force` is false.
        ExportDiffers: the graph's logits are not the model's, or those of the lowered one are not finite.
        Unsupported: the graph cannot be lowered, or no graph computes a part of the network.
        StorageFailed: it could not be written.
    """
    a = model.architecture
    check_exportable(a)
    feed = made_up(a.input.specs(), 4)
    network = model.network()
    metadata = {
        "wb.labels": json.dumps(a.head.labels),
        "wb.architecture": a.to_json(),
        "wb.history": json.dumps(public(model.history)),
    }
    if (tokens := a.input.usual_tokens) is not None:
        metadata |= {TOKENS_KEY: str(tokens), LENGTH_KEY: str(a.layout.shape[0])}
    if (tokenizer := tokenizer_of(model.history)) is not None:
        metadata[TOKENIZER_KEY] = tokenizer
    with replacing(path, force=force) as temporary:
        precisions = kept(network)
        settle(network)
        if a.causal:
            return _export_decoder(network, temporary, metadata, opset, exporter, precisions)
        axes = {spec.name: spec.dynamic for spec in a.input.specs()}
        export_module(network, feed, temporary, LOGITS, opset, exporter, metadata, axes)
        if set(precisions.values()) == {"fp32"}:
            return check_parity(network, temporary, feed, Device())
        exact = computes_weights(precisions.values())
        if not exact:  # otherwise the lowered graph is held to the same tolerance below
            check_parity(network, temporary, feed, Device())
        lower_file(temporary, network, precisions)
        found = check_parity(network, temporary, feed, Device(), TOLERANCE if exact else math.inf)
        return found if exact else found.model_copy(update={"note": ROUNDED})


def _export_decoder(
    network: Network,
    path: Path,
    metadata: Mapping[str, str],
    opset: int,
    exporter: Exporter,
    precisions: Mapping[str, Precision],
) -> Reading:
    """Writes a causal network, and compares it in fp32 with torch, whole and step by step. Raises as `export`."""
    if exporter != "torchscript":
        raise Unsupported(f"networks that continue texts are exported by torchscript, not by {exporter}; leave it out")
    with quieted():
        graph = traced(network, path, opset)
    write(graph, path, metadata)
    found = check_steps(network, path, Device(), lambda worst: check_difference(worst, TOLERANCE))
    if set(precisions.values()) == {"fp32"}:
        return found
    lower_file(path, network, precisions)
    exact = computes_weights(precisions.values())
    found = check_steps(
        network, path, Device(), lambda worst: check_difference(worst, TOLERANCE if exact else math.inf)
    )
    return found if exact else found.model_copy(update={"note": ROUNDED})


def export_module(
    module: nn.Module,
    examples: Mapping[str, torch.Tensor],
    path: Path,
    output: str = LOGITS,
    opset: int = OPSET,
    exporter: Exporter = "torchscript",
    metadata: Mapping[str, str] | None = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Exports a module that maps some tensors to one tensor, all with a dynamic first dimension.

    `examples` are its arguments in order, by the names of the graph's inputs; `output` names the graph's output. `dynamic` has
    the names of all dynamic dimensions by input, where there are more.
    """
    axes = {name: dict((dynamic or {}).get(name, {0: BATCH})) for name in examples}
    module.eval()
    arguments, names = tuple(examples.values()), list(examples)
    with quieted():
        if exporter == "dynamo":
            # Shapes are a tuple, because a module's arguments need not have the names of the graph's inputs.
            dims = {axis: torch.export.Dim(axis) for found in axes.values() for axis in found.values()}
            shapes = tuple({i: dims[axis] for i, axis in axes[name].items()} for name in names)
            program = torch.onnx.export(
                module,
                arguments,
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=shapes,
                input_names=names,
                output_names=[output],
                verbose=False,
            )
            if program is None:
                raise ExportDiffers("the dynamo exporter gave nothing; try --exporter torchscript")
            graph = program.model_proto
        else:
            torch.onnx.export(
                module,
                arguments,
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=names,
                output_names=[output],
                dynamic_axes={**axes, output: {0: BATCH}},
            )
            graph = onnx.load(path)
    write(graph, path, metadata or {})


def check_parity(
    network: nn.Module, path: Path, examples: Mapping[str, torch.Tensor], device: Device, tolerance: float = TOLERANCE
) -> Reading:
    """The largest difference between the outputs of torch and of the runtime, for batches of 1 and of all examples.

    Where the largest output of an example exceeds 1 it is relative to that.

    `examples` are the network's arguments in order. If an operator `jumps` (is discontinuous), it is the median over examples.

    Raises:
        ExportDiffers: it exceeds `tolerance`, or is no finite number.
    """
    run = Runner(path, device)
    jumps = any(isinstance(module, OperatorModule) and module.jumps for module in network.modules())
    count = len(next(iter(examples.values())))

    def differences(rows: slice) -> npt.NDArray[np.float64]:
        """The largest difference of each example."""
        part = {name: values[rows] for name, values in examples.items()}
        with torch.inference_mode():
            expected: npt.NDArray[np.float32] = network(*part.values()).numpy()
        given = run({name: values.numpy() for name, values in part.items()}, batch=len(expected))
        with np.errstate(invalid="ignore"):  # infinities are caught on the next line
            # A small logit is as inexact as the large ones, for it is what is left of sums as large as theirs.
            relative = np.abs(given - expected) / np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
        largest: npt.NDArray[np.float64] = np.where(np.isfinite(relative), relative, math.inf).max(axis=1)
        return largest

    # In a network that jumps, a rounding error may change some images across a jump, but not most of them.
    together = differences(slice(count))
    alone = np.concatenate([differences(slice(i, i + 1)) for i in range(count if jumps else 1)])
    worst = max(float(np.median(found) if jumps else found.max()) for found in (together, alone))
    check_difference(worst, tolerance)
    return Reading(value=worst, unit="logit", how="measured", n=count, device=device.here.text)


def check_difference(worst: float, tolerance: float) -> None:
    """Raises `ExportDiffers` where outputs differ by more, or are not finite."""
    if worst == math.inf:
        raise ExportDiffers(
            "the exported graph gives numbers that are not finite; nothing was written. Check the model's weights"
        )
    if worst > tolerance:
        raise ExportDiffers(
            f"the exported graph differs from the model by {worst:.2g} where {tolerance:g} is allowed; nothing was written. "
            "Try --exporter dynamo, and report the architecture"
        )


def read_architecture(path: Path) -> Architecture | None:
    """The architecture in the metadata of a workbench graph; None for a foreign graph.

    Raises:
        BadArtefact: no ONNX file, or metadata under that name that are no architecture.
    """
    found = read_metadata(path).get("wb.architecture")
    if found is None:
        return None
    try:
        return Architecture.from_json(found)
    except BadArtefact as error:
        raise BadArtefact(f"{path} carries `wb.architecture`, but {error}") from error


def read_preparation(path: Path) -> Preparation | None:
    """The preparation of images in the metadata of a foreign graph that `wb` wrote; None if there is none.

    Raises:
        BadArtefact: no ONNX file, or damaged metadata.
    """
    found = read_metadata(path).get(IMAGES)
    return None if found is None else read_stored(found, path)


def read_classes(path: Path) -> tuple[tuple[str, ...], int | None]:
    """The class names of any ONNX file, () if it has none, and the number of classes, None if it is dynamic.

    Raises:
        BadArtefact: no ONNX file, or damaged metadata.
    """
    graph = open_graph(path)
    outputs = {output.name: output for output in graph.graph.output}
    scores = outputs.get("logits") or next(iter(outputs.values()), None)
    sizes = [] if scores is None else [dim.dim_value for dim in scores.type.tensor_type.shape.dim]
    classes = sizes[1] if len(sizes) == 2 and sizes[1] > 0 else None
    text = next((entry.value for entry in graph.metadata_props if entry.key == "wb.labels"), "[]")
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArtefact(f"the class names in {path} are damaged ({error}); export it again") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise BadArtefact(f"the class names in {path} are no list of names; export it again")
    if labels and classes is not None and len(labels) != classes:
        raise BadArtefact(f"{path} names {len(labels)} classes and gives {classes} scores; export it again")
    return tuple(labels), classes


def read_image(path: Path) -> tuple[int | None, int | None]:
    """Height and width of the first image input of any ONNX file; None for a dimension that is dynamic or missing.

    Raises:
        BadArtefact: no ONNX file.
    """
    image = next(iter(inputs(open_graph(path))), None)
    sizes = [] if image is None else [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    return (sizes[2] or None, sizes[3] or None) if len(sizes) == 4 else (None, None)
