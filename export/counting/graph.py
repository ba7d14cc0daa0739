"""Counting parameters and multiply-accumulates of any ONNX graph from the shapes in its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import inliner, shape_inference

from wb.core.errors import reason
from wb.core.measures.readings import Reading
from wb.export.counting.macs import UncountedError, check_operators, count_macs
from wb.export.foreign.opening import open_graph
from wb.export.foreign.parameters import count_parameters
from wb.export.foreign.shapes import shapes_of
from wb.export.foreign.stored import inputs
from wb.export.lowering.scopes import unique_names
from wb.hardware.device import of_run


@dataclass(frozen=True)
class Counts:
    """The readings by metric, and for each missing one the reason."""

    readings: Mapping[str, Reading]
    missing: Mapping[str, str]


def count_graph(path: Path, batch: int = 1) -> Counts:
    """Counts `params` (`wb.export.foreign.parameters`) and `macs` (`wb.export.counting.macs`) of an ONNX file.

    `macs` are those of one run, as for latency: of `batch` examples if the first axis of the inputs is dynamic, else of the
    fixed number of examples. If that is more than one, the note says how many.

    Raises:
        BadArtefact: the file is not an ONNX graph.
    Limits: ONNX's shape inference crashes on some damaged graphs; foreign graphs go through `wb.export.foreign.trial` first.
    """
    model = open_graph(path)
    params = Reading(value=count_parameters(model), unit="parameters", how="counted")
    try:
        macs = Reading(value=_macs(model, batch), unit="MAC", how="counted", note=of_run(_first(model, batch)))
    except UncountedError as error:
        return Counts({"params": params}, {"macs": str(error)})
    return Counts({"params": params, "macs": macs}, {})


def _macs(model: onnx.ModelProto, batch: int) -> int:
    try:
        plain = unique_names(inliner.inline_local_functions(model) if model.functions else model)
        check_operators(plain.graph.node)
        shapes = shapes_of(plain, batch)
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:  # the last two are the inliner's
        raise UncountedError(f"its shapes cannot be inferred ({reason(error)})") from error
    return count_macs(plain.graph.node, shapes)


def _first(model: onnx.ModelProto, batch: int) -> tuple[int, ...]:
    """The shape of the first input in one run; dynamic axes after the first count as 1, since only the first one matters."""
    for value in inputs(model):
        dims = value.type.tensor_type.shape.dim
        return tuple(dim.dim_value or (batch if i == 0 else 1) for i, dim in enumerate(dims))
    return ()
