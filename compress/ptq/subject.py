"""The subject of quantization: a floating-point graph, of a model or foreign, whose groups of linear maps have names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from wb.compress.ptq.calibration import Inputs
from wb.compress.ptq.qdq import quantize_ranged
from wb.core.errors import BadOption
from wb.core.precision import TRAINED, allowed, in_floating_point, precisions
from wb.core.records import Precision
from wb.core.system.files import scratch
from wb.export.foreign.opening import metadata_of, open_graph
from wb.export.foreign.stored import scopes, tensors, values
from wb.export.graph import export
from wb.export.lowering.fold import folded
from wb.export.lowering.lower import lower, nodes_of
from wb.export.lowering.products import QUANTIZED, Product, products
from wb.export.lowering.tied import continues
from wb.models.groups import groups_of, settle
from wb.models.model import Model, read_history

Choice = Mapping[str, Precision]  # group -> its precision; groups that are not named stay in fp32


@dataclass(frozen=True)
class Subject:
    """A float `graph`, which `wb.export.lowering.fold.folded` returned, and the nodes of each group in order of execution.

    `options` are the precisions of each group that ONNX Runtime's quantizers can produce after training, from small to large,
    fp32 last. If fp32 is the only one, `refusals` says why. `model` is None for a foreign graph, whose groups are its nodes.
    With calibration inputs as `ranges` convolutions in 8 bits have fixed ranges, and `every` other product too if that is set;
    otherwise these are found as they run.
    """

    graph: onnx.ModelProto = field(repr=False)
    groups: Mapping[str, tuple[str, ...]]
    options: Mapping[str, tuple[Precision, ...]]
    model: Model | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    ranges: Inputs | None = field(default=None, repr=False)
    every: bool = False

    @cached_property
    def products(self) -> Mapping[str, Product]:
        """Node -> product of the graph."""
        return products(self.graph)

    def convolution(self, group: str) -> bool:
        """Whether the group is a convolution, which has no kernel for 4 bits and is slower in 8 bits without fixed ranges."""
        return any(self.products[node].convolution for node in self.groups[group])

    @property
    def continues(self) -> bool:
        """Whether the graph continues texts."""
        return continues(self.graph.graph)

    @property
    def maps(self) -> bool:
        """Whether it is a network of the workbench with a stage of convolutions."""
        return self.model is not None and self.model.architecture.has_maps

    def check(self, choice: Choice) -> None:
        """Raises `BadOption` if a group does not exist, or cannot have the precision of `choice`."""
        unknown = sorted(set(choice) - set(self.groups))
        if unknown:
            raise BadOption(f"no group named {', '.join(unknown)}; there are {', '.join(self.groups)}")
        for group, precision in choice.items():
            if precision not in self.options[group]:
                why = f" ({self.refusals[group]})" if group in self.refusals else ""
                options = ", ".join(self.options[group])
                raise BadOption(f"{group} cannot be kept in {precision}{why}; it takes {options}")

    def lowered(self, choice: Choice) -> onnx.ModelProto:
        """The graph with its groups in the precisions of `choice`.

        Raises as `check`, `wb.export.lowering.lower.lower` and `wb.compress.ptq.qdq.quantize_ranged` do.
        """
        self.check(choice)
        policy = {node: p for group, p in choice.items() if p != "fp32" for node in self.groups[group]}
        fixed = [node for node in policy if self.ranges is not None and self._ranged(node, policy[node])]
        policy = {node: precision for node, precision in policy.items() if node not in fixed}
        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        graph = lower(graph, policy) if policy else graph
        return graph if self.ranges is None else quantize_ranged(graph, self.ranges, fixed)

    def _ranged(self, node: str, precision: Precision) -> bool:
        return self.products[node].convolution or (self.every and precision == "int8")


def of_model(model: Model) -> Subject:
    """The subject of a model: its graph in floating point, with the groups of its architecture.

    Raises:
        BadOption: the model's weights are binary or ternary already.
        ExportDiffers, Unsupported: as `wb.export.graph.export` and `wb.export.lowering.lower` do.
    """
    plain = Model(in_floating_point(model.architecture), model.weights, model.history)
    if set(TRAINED) & set(precisions(model.architecture).values()):
        raise BadOption(
            "this model has binary or ternary weights, which are few enough bits already; give the one before"
        )
    network = plain.network()
    settle(network)
    with scratch() as folder:
        path = folder / "float.onnx"
        export(plain, path)
        graph = folded(path)
    groups = {
        group: names for group, names in groups_of(network).items() if names
    }  # a table of tokens is no linear map
    able, known = allowed(plain.architecture), products(graph)
    nodes = nodes_of(graph, network, [name for names in groups.values() for name in names])

    def options(group: str) -> tuple[Precision, ...]:
        """What both the architecture and the graph can have it in."""
        found = [known[nodes[name]].options for name in groups[group]]
        return tuple(one for one in _post_training(able[group]) if all(one in options for options in found))

    return Subject(
        graph,
        {group: tuple(nodes[name] for name in names) for group, names in groups.items()},
        {group: options(group) for group in groups},
        plain,
    )


def of_graph(path: Path) -> Subject:
    """The subject of an ONNX file; each product with constant weights, at any depth, is a group.

    Raises:
        BadArtefact: the file is not an ONNX graph.
        BadOption: its weights are in another file, not in float32, already quantized or not finite; or there is nothing to
            quantize.
        Unsupported: the runtime cannot load the graph.
    """
    given = open_graph(path)
    read_history(metadata_of(given).get("wb.history", "[]"), path)  # checked early: a result continues it
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors(given)):
        raise BadOption(
            f"the weights of {path} lie in another file; save it as one file (onnx.save does) and give that"
        )
    _check_floating(given, path)
    graph = folded(path)
    found = products(graph)
    _check_weights(graph, found, path)
    if not found:
        raise BadOption(f"{path} has no product or convolution with constant weights; there is nothing to quantize")
    options = {name: _post_training(product.options) for name, product in found.items()}
    refusals = {name: product.why for name, product in found.items() if product.why is not None}
    return Subject(graph, {name: (name,) for name in found}, options, refusals=refusals)


def _check_floating(graph: onnx.ModelProto, path: Path) -> None:
    """Raises `BadOption` if the graph, or a function in it, is quantized, or has constants in 16 bits or with NaN."""
    every = list(scopes(graph))
    present = sorted({node.op_type for scope in every for node in scope.nodes} & QUANTIZED)
    if present:
        raise BadOption(f"{path} is quantized already ({', '.join(present)}); give the graph in floating point")
    for name, tensor in (found for scope in every for found in values(scope)):
        if tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
            raise BadOption(f"{path} has weights in 16 bits ({name}); give it in float32")
        if tensor.data_type == onnx.TensorProto.FLOAT and np.isnan(numpy_helper.to_array(tensor)).any():
            raise BadOption(f"{path} has NaN or infinite weights, in {name}; export it again")


def _check_weights(graph: onnx.ModelProto, found: Mapping[str, Product], path: Path) -> None:
    """Raises `BadOption` if weights of a product are not float32 or not finite; infinities elsewhere may be masks."""
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    for product in found.values():
        if product.kind != onnx.TensorProto.FLOAT:
            bits = 64 if product.kind == onnx.TensorProto.DOUBLE else 16
            raise BadOption(f"{path} has weights in {bits} bits ({product.weight}); give it in float32")
        if not np.isfinite(numpy_helper.to_array(tensors[product.weight])).all():
            raise BadOption(f"{path} has NaN or infinite weights, in {product.weight}; export it again")


def _post_training(every: tuple[Precision, ...]) -> tuple[Precision, ...]:
    return tuple(precision for precision in every if precision not in TRAINED)
