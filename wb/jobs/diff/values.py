"""The values inside two ONNX graphs on the same images, where both have them under one name.

A graph and what a quantizer, or a fine-tuning, made of it name most of their values alike. Compared are the outputs of products,
sums, norms and activations of the main graph; of very many, some spread evenly over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact
from wb.export.foreign.opening import open_graph
from wb.export.foreign.stored import inputs
from wb.hardware.device import Device, session
from wb.hardware.runtimes.failures import said
from wb.jobs.diff.layers import ROWS, Place
from wb.jobs.diff.record import LayerRow

MOST = 64  # values
IMAGES = 64  # that they are compared on, at most
_AT_ONCE = 8  # images: all values of a batch are in memory
_SHOWN = frozenset(
    {
        *("MatMul", "Gemm", "Conv", "Add", "Mul", "Softmax", "LayerNormalization", "Gelu", "Relu", "Clip", "HardSwish"),
        *("Attention", "BatchNormalization", "RMSNormalization", "Concat", "ReduceMean", "GlobalAveragePool"),
    }
)


def compare_values(
    a: Path, b: Path, images: Sequence[NDArray[np.float32]], progress: Progress, seed: int = 0
) -> tuple[LayerRow, ...]:
    """A row for each value that both graphs name alike, in the order of A; `images` are as each of them takes them (n, …).

    Values of other shapes, and those that are no finite floating-point numbers for each image, are left out.

    Raises:
        BadArtefact: a graph that does not load or run with its values as outputs.
    """
    graphs = [open_graph(path) for path in (a, b)]
    names = _common(*graphs)
    if not names:
        return ()
    runs = [_Run(graph, names) for graph in graphs]
    size = max(run.batch or 1 for run in runs) if any(run.batch for run in runs) else _AT_ONCE
    count = min(len(images[0]), IMAGES)
    generator = torch.Generator().manual_seed(seed)
    places: dict[str, Place] = {}
    left: set[str] = set()
    for start in range(0, count, size):
        progress("comparing values", start, count)
        some = min(size, count - start)  # the rest of the last batch repeats, where a graph takes no fewer
        taken = np.arange(start, start + (size if any(run.batch for run in runs) else some)).clip(max=count - 1)
        found = [run(part[taken]) for run, part in zip(runs, images, strict=True)]
        for name in (name for name in names if name not in left):
            x, y = (_tokens(one.get(name), len(taken), some) for one in found)
            if x is None or y is None or x.shape != y.shape:
                left.add(name)
                places.pop(name, None)
                continue
            place = places.setdefault(name, Place(name, "both", (x.shape[-1], y.shape[-1])))
            place.add(x, y, max(1, round(ROWS * some / count)), generator)
    return tuple(place.row() for place in places.values())


def _common(a: onnx.ModelProto, b: onnx.ModelProto) -> list[str]:
    """The values that both have, in the order of A, at most `MOST` of them."""
    other = {name for node in b.graph.node for name in node.output}
    found = [
        name for node in a.graph.node if node.op_type in _SHOWN for name in node.output[:1] if name and name in other
    ]
    if len(found) <= MOST:
        return found
    return [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MOST).round().astype(int))]


class _Run:
    """A graph that gives the values of these names; `batch` is its own if that is fixed."""

    def __init__(self, graph: onnx.ModelProto, names: Sequence[str]) -> None:
        there = {output.name for output in graph.graph.output}
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
        (first,) = inputs(graph)
        self.batch = first.type.tensor_type.shape.dim[0].dim_value or None
        self._input, self._names = first.name, list(names)
        self._loaded = session(graph.SerializeToString(), Device(threads=torch.get_num_threads()))

    def __call__(self, images: NDArray[np.float32]) -> dict[str, Any]:
        """The values by name. Raises `BadArtefact` if it does not run."""
        try:
            found = self._loaded.run(self._names, {self._input: images})
        except Exception as error:  # the runtime's exceptions have no common base class
            raise BadArtefact(f"it does not run with its values as outputs ({said(error)})") from error
        return dict(zip(self._names, found, strict=True))


def _tokens(value: Any, batch: int, some: int) -> Tensor | None:
    """The first values of a batch as (some, N, D): of a map the channels last; None if it is no finite numbers for each image."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float32 or value.ndim < 2 or len(value) != batch:
        return None
    found = torch.from_numpy(value[:some])
    if not found.isfinite().all():
        return None
    if found.dim() == 2:
        return found[:, None]
    return (found.movedim(1, -1) if found.dim() == 4 else found).flatten(1, -2)
