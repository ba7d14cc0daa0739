"""Static int8 quantization by NNCF: weights and activations in 8 bits, with ranges of activations from calibration inputs.

Source: NNCF's `nncf.quantize` for ONNX with `ModelType.TRANSFORMER`, which leaves softmax, norms and the like in floating point
and has rules for the products inside attention; weights per channel.
Differs: groups can be kept in floating point; examples are run one at a time.
Limits: NNCF may leave more groups in floating point, so the result is inspected to find which groups are in 8 bits.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import onnx

from wb.compress.ptq.calibration import Inputs, batch_of, entries, first, number_of
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.qdq import silent
from wb.compress.ptq.refused import refused
from wb.compress.ptq.subject import Subject
from wb.core.errors import BadOption, Unsupported, WbError, reason
from wb.export.lowering import scopes
from wb.export.lowering.products import lowered_nodes, rounded_nodes, unshare_weights
from wb.export.run import unpadded
from wb.hardware.device import Device

LEFT = "left in floating point by NNCF"
REFUSED = "the runtime refuses it in static 8 bits"
# NNCF reports its use through openvino-telemetry unless these are set when it is imported. The first disables the reports,
# the second keeps openvino-telemetry from writing an identity into the user's folder.
_NO_TELEMETRY = {"NNCF_CI": "1", "CI": "true"}


@dataclass(frozen=True)
class Static:
    """A statically quantized graph, the groups whose weights are in 8 bits, and the reasons why other groups are not."""

    graph: onnx.ModelProto
    groups: tuple[str, ...]
    reasons: Mapping[str, str]


def static_int8(subject: Subject, inputs: Inputs, keep: Collection[str] = ()) -> Static:
    """Quantizes all groups except those of `keep`, with ranges of activations from `inputs`. The graph's metadata are kept.

    A group stays in floating point if NNCF or the runtime fails on it, or if only a part of it would have 8-bit weights, or
    if its weights would be rounded only at run time.

    Raises:
        BadOption: a group of `keep` does not exist, or no group is left to quantize.
        Unsupported: NNCF fails on the graph even without any group, or leaves all groups in floating point.
    """
    unknown = sorted(set(keep) - set(subject.groups))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; there are {', '.join(subject.groups)}")
    groups = [group for group in subject.groups if group not in keep]
    if not groups:
        raise BadOption("every group is to be kept in floating point, so there is nothing to quantize; keep fewer")
    wanted = groups
    graph, groups = _largest(subject, inputs, wanted)
    reasons = {group: LEFT if group in groups else REFUSED for group in wanted}
    low = set(lowered_nodes(graph))
    some = low | rounded_nodes(graph)
    parted = [group for group in groups if some.intersection(subject.groups[group]) and not _whole(subject, group, low)]
    if parted:
        graph, groups = _largest(subject, inputs, [group for group in groups if group not in parted])
        low = set(lowered_nodes(graph))
    found = tuple(group for group in groups if _whole(subject, group, low))
    more = sorted(low - {node for group in found for node in subject.groups[group]})
    if more:
        raise Unsupported(f"NNCF quantized {', '.join(more)}, which were to stay; try --policy int8-dynamic")
    if not found:
        raise Unsupported("NNCF left all weights of this graph in floating point; try --policy int8-dynamic")
    return Static(graph, found, {group: why for group, why in reasons.items() if group not in found})


def _whole(subject: Subject, group: str, low: Collection[str]) -> bool:
    return bool(subject.groups[group]) and set(low).issuperset(subject.groups[group])


def _largest(subject: Subject, inputs: Inputs, groups: list[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph with `groups` in 8 bits, or with the largest part of them that does not fail; and these groups."""
    try:
        return _attempt(subject, inputs, groups), groups
    except Unsupported:
        few = first(inputs, batch_of(subject.graph))

        def works(some: Sequence[str]) -> bool:
            try:
                _attempt(subject, few, some)
            except Unsupported:
                return False
            return True

        bad = refused(groups, works) if works([]) else groups
        rest = [group for group in groups if group not in bad]
        if not rest or not bad:
            raise
        return _attempt(subject, inputs, rest), rest


def _attempt(subject: Subject, inputs: Inputs, groups: Collection[str]) -> onnx.ModelProto:
    """Quantizes `groups` with NNCF and runs the graph once. Raises `Unsupported` if either fails."""
    given = onnx.ModelProto()
    given.CopyFrom(subject.graph)
    kept = [node for group, nodes in subject.groups.items() if group not in groups for node in nodes]
    grouped = {node for nodes in subject.groups.values() for node in nodes}
    others = [node.name for node in given.graph.node if node.op_type == "Conv" and node.name not in grouped]
    # A convolution of no group stays as it is: an operator's own filters.
    ignored = [*kept, *_sharing(subject, kept), *others]
    unshare_weights(given.graph, ignored)
    outside = scopes.output_names(given.graph)  # NNCF's smoothing would change weights that are outputs of the graph
    unshare_weights(given.graph, [node for node, product in subject.products.items() if product.weight in outside])
    # NNCF's smoothing fails if a node is between a product and its weights.
    smooth = all(product.weight in product.node.input for product in subject.products.values())
    try:
        graph = _quantized(given, inputs, ignored, smooth=smooth)
    except Exception as error:  # NNCF's errors have no common base class
        raise Unsupported(f"NNCF cannot quantize this graph: {reason(error)}; try --policy int8-dynamic") from error
    del graph.metadata_props[:]
    graph.metadata_props.extend(subject.graph.metadata_props)
    del graph.graph.value_info[:]  # the inferred types only make the file larger
    graph.graph.value_info.extend(subject.graph.graph.value_info)
    try:
        outputs(graph, first(inputs, 4 * batch_of(graph)), Device())
    except WbError as error:
        raise Unsupported(f"the graph that NNCF made is of no use: {error}. Try --policy int8-dynamic") from error
    return graph


def _sharing(subject: Subject, kept: Collection[str]) -> list[str]:
    """Nodes other than products that read weights of `kept`; quantizing them would quantize these weights."""
    weights = {subject.products[node].weight for node in kept}
    found = [
        reader.node.name for name, r in scopes.readers(subject.graph.graph).items() if name in weights for reader in r
    ]
    return sorted(set(found) - set(subject.products))


def _quantized(graph: onnx.ModelProto, inputs: Inputs, ignored: list[str], *, smooth: bool) -> onnx.ModelProto:
    outer = {node.name for node in graph.graph.node}  # NNCF knows only nodes of the outermost graph
    batch, number = batch_of(graph), number_of(inputs)
    parts = (
        {name: values[start : start + batch] for name, values in inputs.items()}
        for start in range(0, number - batch + 1, batch)
    )
    # Without the padding of texts: its activations would be in the ranges.
    stretching = {entry.name for entry in entries(graph) if None in entry.shape[1:]}
    examples = [
        {name: np.ascontiguousarray(values) for name, values in unpadded(part, stretching).items()} for part in parts
    ]
    with silent():
        nncf = _nncf()
        scope = nncf.IgnoredScope(names=[name for name in ignored if name in outer])
        rough = nncf.AdvancedSmoothQuantParameters(matmul=-1)
        result: onnx.ModelProto = nncf.quantize(
            graph,
            nncf.Dataset(examples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(examples),
            ignored_scope=scope if scope.names else None,
            advanced_parameters=None if smooth else nncf.AdvancedQuantizationParameters(smooth_quant_alphas=rough),
        )
    return result


def _nncf() -> ModuleType:
    """Imports NNCF with its telemetry disabled."""
    before = {name: os.environ.get(name) for name in _NO_TELEMETRY}
    os.environ.update(_NO_TELEMETRY)
    try:
        import nncf
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    module: ModuleType = nncf
    return module
