"""Export of a network as a line of graphs, which compute what the whole computes when each is given what the one before it gave.

Differs: graphs are traced stage by stage, not cut out of the graph of the whole, so that no border has to be found in one.
Limits: networks that continue texts keep what they read before, which is not handed on here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wb.core.errors import BadOption, StorageFailed, Unsupported, reason
from wb.core.measures.readings import Reading
from wb.core.precision import computes_weights
from wb.core.records import Precision
from wb.core.specs import BATCH, MASK
from wb.core.system.files import place, scratch, write_text
from wb.export.graph import LOGITS, OPSET, ROUNDED, TOLERANCE, check_difference
from wb.export.lowering.lower import lower_file
from wb.export.refusal import check_exportable
from wb.export.writing import quieted, write
from wb.hardware.device import DTYPES, Device, session
from wb.models.feeds import made_up
from wb.models.files.history import tokenizer_of
from wb.models.groups import kept, settle
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model
from wb.models.network import Network
from wb.models.staged.spans import Span, spans
from wb.models.walk import State

ORDER = "stages.json"
TOKENIZER = "tokenizer.json"
HOW = "run the files in order; give each the arrays of its inputs' names: the network's own, or what a file before it gave"
VIEWS = "images"  # and their mirror images
POSITIONS = "positions"  # tokens of a stream, those in front of a text too


class _Stage(nn.Module):
    """Some blocks of a network, from arrays to arrays; texts bring their mask as the last one."""

    def __init__(self, network: Network, span: Span, before: int) -> None:
        super().__init__()
        self.network, self.span, self.before = network, span, before
        self.masked = network.architecture.input.usual_tokens is not None

    @property
    def keeps(self) -> int:
        """How many tensors of memory it hands on beside the stream."""
        if self.span.last:
            return 0
        stage, block = self.span.blocks[-1]
        return self.network.wiring(stage).keeps(block)

    def forward(self, *arrays: Tensor) -> Tensor | tuple[Tensor, ...]:
        network = self.network
        given, mask = (arrays[:-1], arrays[-1]) if self.masked else (arrays, None)
        if self.span.first:
            state = network.begin(given[0], mask)
        else:
            context = network.context(None if mask is None else mask.bool())
            state = State(given[0], self.before, tuple(given[1:]), context)
        for i, j in self.span.blocks:
            state = network.enter(state, i)
            state = list(network.blocks(i))[j](network.wiring(i), state)
        if self.span.last:
            return network.end(state)
        return (state.stream, *state.memory[: self.keeps])


def export_stages(model: Model, folder: Path, count: int, *, opset: int = OPSET, force: bool = False) -> Reading:
    """Writes a model as `count` graphs `0.onnx`, `1.onnx`, … into `folder`, and `stages.json`, which says how they go together.

    Returns the largest difference between the logits of the line of graphs and the model's, as `wb.export.graph.export`.

    Raises:
        BadOption: more stages than blocks, or files that exist and `force` is false.
        ExportDiffers: the graphs do not compute what the model does.
        StorageFailed: they could not be written.
        Unsupported: the network continues texts, or no graph computes a part of it.
    """
    a = model.architecture
    check_exportable(a)
    if a.causal:
        raise Unsupported(
            "networks that continue texts keep what they read before, which graphs of stages do not hand on; export the whole"
        )
    found = spans(a, count)
    network = model.network()
    precisions = kept(network)
    settle(network)
    owned = [{n: p for n, p in precisions.items() if span.owns(network, n)} for span in found]
    names = [f"{number}.onnx" for number in range(count)]
    tokenizer = tokenizer_of(model.history)
    texts = {} if tokenizer is None else {TOKENIZER: tokenizer}
    _check_free(folder, [*names, ORDER, *texts], force=force)
    feed = made_up(a.input.specs(), 4)
    with scratch() as work:
        files = [work / name for name in names]
        _written(network, found, files, feed, opset, a.head.labels)
        difference = _difference(network, files, feed)
        check_difference(difference, TOLERANCE)
        if set(precisions.values()) != {"fp32"}:
            difference = _lowered(network, files, owned, feed)
        order = [_described(path, span) for path, span in zip(files, found, strict=True)]
        _forget(folder, count)
        for path in files:
            place(path, folder / path.name, force=force)
    for name, text in texts.items():
        write_text(folder / name, text, force=force)
    content = {
        "format": 1,
        "how": HOW,
        "labels": list(a.head.labels),
        "largest_difference": difference,
        "stages": order,
    }
    if texts:
        content["tokenizer"] = TOKENIZER
    write_text(folder / ORDER, json.dumps(content, indent=1) + "\n", force=force)
    note = None if computes_weights(precisions.values()) else ROUNDED
    return Reading(value=difference, unit="logit", how="measured", n=4, device=Device().here.text, note=note)


def _check_free(folder: Path, names: Sequence[str], *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadOption(f"{folder} is a file, and the stages are several; name a folder")
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise BadOption(f"{folder / there[0]} exists already; choose another folder or say --force to replace it")


def _forget(folder: Path, count: int) -> None:
    """Deletes what an earlier line there has beyond `count` stages, and what says how it goes together: it is replaced."""
    if not (folder / ORDER).is_file():
        return
    try:
        (folder / ORDER).unlink()  # first: an interrupted export leaves no line of old and new graphs
        number = count
        while (old := folder / f"{number}.onnx").is_file():
            old.unlink()
            number += 1
    except OSError as error:
        raise StorageFailed(
            f"could not replace the stages in {folder} ({reason(error)}); choose another folder"
        ) from error


def _written(
    network: Network,
    found: Sequence[Span],
    files: Sequence[Path],
    feed: Mapping[str, Tensor],
    opset: int,
    labels: Sequence[str],
) -> None:
    """Traces each stage on what the one before it gives."""
    given, before = dict(feed), 0
    for number, (span, path) in enumerate(zip(found, files, strict=True)):
        stage = _Stage(network, span, before).eval()
        outputs = [LOGITS] if span.last else [f"stage{number}.{name}" for name in ("stream", *_befores(stage.keeps))]
        dynamic = _dynamic(network, {*given, *outputs})
        with quieted():
            torch.onnx.export(
                stage,
                tuple(given.values()),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=list(given),
                output_names=outputs,
                dynamic_axes=dynamic,
            )
        write(onnx.load(path), path, {"wb.labels": json.dumps(labels)} if span.last else {})
        with torch.inference_mode():
            made = stage(*given.values())
        together = (made,) if isinstance(made, Tensor) else made
        masks = {name: values for name, values in feed.items() if name == MASK}
        given = {**{name: value.clone() for name, value in zip(outputs, together, strict=True)}, **masks}
        before = span.blocks[-1][0] if span.blocks else 0


def _befores(count: int) -> list[str]:
    """Names of so many tensors of memory: `before`, `before1`, …"""
    return [f"before{i or ''}" for i in range(count)]


def _dynamic(network: Network, names: set[str]) -> dict[str, dict[int, str]]:
    """The axes of any size, by the names of arrays."""
    known = {spec.name: dict(spec.dynamic) for spec in network.architecture.input.specs()}
    a = network.architecture.input
    stream = {0: BATCH if a.views == 1 else VIEWS} | ({} if a.usual_tokens is None else {1: POSITIONS})
    return {name: {0: BATCH} if name == LOGITS else known.get(name, stream) for name in names}


def _lowered(
    network: Network, files: Sequence[Path], owned: Sequence[Mapping[str, Precision]], feed: Mapping[str, Tensor]
) -> float:
    """Keeps the weights of each stage as its groups say; the largest difference then."""
    for path, precisions in zip(files, owned, strict=True):
        if set(precisions.values()) - {"fp32"}:
            lower_file(path, network, precisions)
    exact = computes_weights({one for precisions in owned for one in precisions.values()})
    difference = _difference(network, files, feed)
    check_difference(difference, TOLERANCE if exact else math.inf)
    return difference


def _difference(network: Network, files: Sequence[Path], feed: Mapping[str, Tensor]) -> float:
    """The largest difference of the line of graphs from the network, relative where the largest output exceeds 1."""
    with torch.inference_mode():
        expected = network(*feed.values()).numpy()
    given = chained(files, {name: values.numpy() for name, values in feed.items()})
    relative = np.abs(given - expected) / np.maximum(1, np.abs(expected).max(axis=1, keepdims=True))
    largest = np.where(np.isfinite(relative), relative, math.inf).max(axis=1)
    jumps = any(isinstance(module, OperatorModule) and module.jumps for module in network.modules())
    return float(np.median(largest) if jumps else largest.max())


def chained(files: Sequence[Path], feed: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """What the last of the graphs gives, each being given what it names of the `feed` and of what those before it gave."""
    there = dict(feed)
    for path in files:
        run = session(path, Device())
        given = {one.name: there[one.name] for one in run.get_inputs()}
        names = [one.name for one in run.get_outputs()]
        there |= dict(zip(names, run.run(names, given), strict=True))
    return there[LOGITS]


def _described(path: Path, span: Span) -> dict[str, Any]:
    """A graph in `stages.json`."""
    run = session(path, Device())

    def arrays(found: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": one.name, "type": np.dtype(DTYPES[one.type]).name, "shape": list(one.shape)} for one in found]

    ends = {"inputs": arrays(run.get_inputs()), "outputs": arrays(run.get_outputs())}
    return {"file": path.name, "bytes": path.stat().st_size, "blocks": span.text, **ends}
