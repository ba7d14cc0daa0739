"""Export of a causal network to one graph, which begins texts and continues them.

    input_ids (batch, tokens), attention_mask (batch, total), past_key_values.0.key (batch, heads, past, channels), …
        -> logits (batch, tokens, vocabulary), present.0.key (batch, heads, total, channels), …

Without a past the arrays of it are empty, those of sums zero. What is present after a run is the past of the next. Names are
those of Hugging Face's optimum and of onnxruntime-genai.

A tied table is stored once, with a `Transpose` that the runtime computes when it loads the graph.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from wb.core.errors import Unsupported
from wb.core.measures.readings import Reading
from wb.core.specs import BATCH, IDS, MASK, PAST, TOKENS, TOTAL
from wb.export.pasts import PASTS, empty_pasts
from wb.hardware.device import Device, session
from wb.models.decoding import Decoder, Recalled, recalled
from wb.models.network import Network

PRESENTS = "present."  # in front of the names of `wb.models.decoding.recalled`, as `PASTS`
LOGITS = "logits"
_EXAMPLE = (2, 3, 2)  # texts, tokens and tokens before, with which a network is traced
_STEPS = ((3, 2, 1, 1), (1,) * 7)  # how many tokens at a time texts are given, to be compared with all at once

Differs = Callable[[float], None]  # raises if a difference is too large


def traced(network: Network, path: Path, opset: int) -> onnx.ModelProto:
    """The graph of a causal network, which is in eval mode; `path` is written meanwhile."""
    kept = recalled(network)
    texts, tokens, before = _EXAMPLE
    dynamic = {IDS: {0: BATCH, 1: TOKENS}, MASK: {0: BATCH, 1: TOTAL}, LOGITS: {0: BATCH, 1: TOKENS}}
    for one in kept:
        dynamic[PASTS + one.name] = {0: BATCH, **_grows(one, PAST)}
        dynamic[PRESENTS + one.name] = {0: BATCH, **_grows(one, TOTAL)}
    ids = torch.zeros(texts, tokens, dtype=torch.int64)
    mask = torch.ones(texts, before + tokens, dtype=torch.int64)
    pasts = [torch.zeros(one.sized(texts, before)) for one in kept]
    torch.onnx.export(
        Decoder(network).eval(),
        (ids, mask, *pasts),
        str(path),
        dynamo=False,
        opset_version=opset,
        input_names=[IDS, MASK, *(PASTS + one.name for one in kept)],
        output_names=[LOGITS, *(PRESENTS + one.name for one in kept)],
        dynamic_axes=dynamic,
    )
    graph = onnx.load(path)
    stored_once(graph)
    names = [given.name for given in graph.graph.input]
    if MASK not in names:  # a network without mixers does not look at it, and tracing leaves out what nothing reads
        mask_of = helper.make_tensor_value_info(MASK, onnx.TensorProto.INT64, [BATCH, TOTAL])
        graph.graph.input.insert(1, mask_of)
    return graph


def _grows(one: Recalled, axis: str) -> dict[int, str]:
    return {i: axis for i, size in enumerate(one.shape) if size == PAST}


def stored_once(graph: onnx.ModelProto) -> None:
    """Lets equal constants be one, and a matrix that is another's transpose be made of that one, in place."""
    constants: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for tensor in list(graph.graph.initializer):
        same = constants.setdefault(_digest(numpy_helper.to_array(tensor)), tensor.name)
        if same != tensor.name:
            renamed[tensor.name] = same
            graph.graph.initializer.remove(tensor)
    for node in graph.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    looked_up = {node.input[0] for node in graph.graph.node if node.op_type == "Gather"}
    for tensor in list(graph.graph.initializer):
        if len(tensor.dims) != 2 or tensor.name in looked_up:
            continue
        table = constants.get(_digest(np.ascontiguousarray(numpy_helper.to_array(tensor).T)))
        if table is not None and table in looked_up:
            graph.graph.initializer.remove(tensor)
            turned = helper.make_node("Transpose", [table], [tensor.name], name=f"{tensor.name}_tied", perm=[1, 0])
            graph.graph.node.insert(0, turned)


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()


class Continuing:
    """A graph of this kind, loaded on a device, with the past of the texts that it is given."""

    def __init__(self, path: Path, device: Device, texts: int = 1) -> None:
        self.session = session(path, device)
        self.begin(texts)
        names = [spec.name for spec in self.session.get_inputs()]
        if names[:2] != [IDS, MASK] or len(names) != 2 + len(self._pasts):
            raise Unsupported(
                f"{path} is no graph that continues texts: it takes {', '.join(names)}; export one of a decoder with `wb export`"
            )

    def begin(self, texts: int) -> None:
        """Forgets what was given: so many texts are begun anew."""
        self.before = 0
        self._pasts = empty_pasts({spec.name: spec.shape for spec in self.session.get_inputs()}, texts)

    def __call__(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits (texts, tokens, vocabulary) of further tokens of each text."""
        self.before += ids.shape[1]
        mask = np.ones((len(ids), self.before), np.int64)
        logits, *presents = self.session.run(None, {IDS: ids, MASK: mask, **self._pasts})
        self._pasts = dict(zip(self._pasts, presents, strict=True))
        return np.asarray(logits, np.float32)


def check_steps(network: Network, path: Path, device: Device, check: Differs) -> Reading:
    """The largest difference between the logits of torch for whole texts and of the graph, given whole and in steps.

    `check` is called with each; differences are relative where an example's largest logit exceeds 1.
    """
    worst, run = 0.0, Continuing(path, device)
    for ids in _texts(network):
        with torch.inference_mode():
            expected: NDArray[np.float32] = network(ids, torch.ones_like(ids)).numpy()
        for steps in ((ids.shape[1],), *_STEPS):
            run.begin(len(ids))
            given = [run(ids[:, start:end].numpy()) for start, end in _cut(steps, ids.shape[1])]
            worst = max(worst, _difference(np.concatenate(given, axis=1), expected))
            check(worst)
    return Reading(value=worst, unit="logit", how="measured", n=len(expected), device=device.here.text)


def _texts(network: Network) -> Iterator[Tensor]:
    """Random texts of other lengths than those that the network was traced with."""
    vocabulary, longest = network.architecture.input.specs()[0].below, network.architecture.layout.tokens
    generator = torch.Generator().manual_seed(0)
    for texts, tokens in ((4, 7), (1, 1)):
        yield torch.randint(0, vocabulary or 1, (texts, min(tokens, longest)), generator=generator)


def _cut(steps: Sequence[int], tokens: int) -> Iterator[tuple[int, int]]:
    """The ends of steps of so many tokens, as long as there are tokens."""
    start = 0
    for step in steps:
        if start < tokens:
            yield start, min(start + step, tokens)
        start += step


def _difference(given: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    with np.errstate(invalid="ignore"):
        relative = np.abs(given - expected) / np.maximum(1, np.abs(expected).max(axis=-1, keepdims=True))
    return float(np.where(np.isfinite(relative), relative, np.inf).max())
