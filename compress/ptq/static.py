"""Static int8: NNCF's post-training quantization of a graph, with ranges of activations found on calibration inputs.

Source: NNCF's `nncf.quantize` for ONNX with `ModelType.TRANSFORMER`, which leaves softmax, norms and the like in floating point
and treats the products inside attention as such models need; weights per channel.
Differs: groups can be kept in floating point; examples are run one at a time.
Limits: what else NNCF leaves in floating point is its choice, hence the graph says which groups are in 8 bits.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import onnx

from wb.compress.ptq.calibration import Inputs, batch_of, first, number_of
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.refused import refused
from wb.compress.ptq.subject import Subject
from wb.core.errors import BadOption, Unsupported, WbError, reason
from wb.export.lowering import scopes
from wb.export.lowering.products import lowered_nodes, rounded_nodes, unshare_weights
from wb.hardware.device import Device

LEFT = "left in floating point by NNCF"
REFUSED = "the runtime refuses it in static 8 bits"
# NNCF counts its uses through openvino-telemetry unless these are set when it is imported: the first leaves its
# reports out, the second keeps openvino-telemetry from writing an identity into the user's folder.
_NO_TELEMETRY = {"NNCF_CI": "1", "CI": "true"}


@dataclass(frozen=True)
class Static:
    """A graph with weights and activations in 8 bits, the groups whose weights really are, and why the others are not."""

    graph: onnx.ModelProto
    groups: tuple[str, ...]
    reasons: Mapping[str, str]


def static_int8(subject: Subject, inputs: Inputs, keep: Collection[str] = ()) -> Static:
    """The graph in 8 bits, but for the groups of `keep`. Ranges are those of `inputs`. The graph's metadata are kept.

    A group with which NNCF fails, or the runtime on its graph, is left in floating point; so is one that would be in 8
    bits in part, or only as it runs.

    Raises:
        BadOption: a group to keep that there is not, or none is left.
        Unsupported: NNCF cannot take the graph whatever is left out, or leaves all of it in floating point.
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
    """The graph with `groups` in 8 bits, or with those of them that do not fail; these as well."""
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
    """NNCF's graph with `groups` in 8 bits, which runs. Raises `Unsupported` where there is none."""
    given = onnx.ModelProto()
    given.CopyFrom(subject.graph)
    kept = [node for group, nodes in subject.groups.items() if group not in groups for node in nodes]
    ignored = [*kept, *_sharing(subject, kept)]
    unshare_weights(given.graph, ignored)
    outside = scopes.output_names(given.graph)  # smoothing would change them, and with them what the graph gives
    unshare_weights(given.graph, [node for node, product in subject.products.items() if product.weight in outside])
    # Its smoothing fails where something is between a product and its weights.
    smooth = all(product.weight in product.node.input for product in subject.products.values())
    try:
        graph = _quantized(given, inputs, ignored, smooth=smooth)
    except Exception as error:  # it raises whatever it meets
        raise Unsupported(f"NNCF cannot quantize this graph: {reason(error)}; try --policy int8-dynamic") from error
    del graph.metadata_props[:]
    graph.metadata_props.extend(subject.graph.metadata_props)
    del graph.graph.value_info[:]  # the types that it inferred, which only make the file larger
    graph.graph.value_info.extend(subject.graph.graph.value_info)
    try:
        outputs(graph, first(inputs, 4 * batch_of(graph)), Device())
    except WbError as error:
        raise Unsupported(f"the graph that NNCF made is of no use: {error}. Try --policy int8-dynamic") from error
    return graph


def _sharing(subject: Subject, kept: Collection[str]) -> list[str]:
    """What is no product and reads weights of `kept`, which would not be in floating point if it were quantized."""
    weights = {subject.products[node].weight for node in kept}
    found = [
        reader.node.name for name, r in scopes.readers(subject.graph.graph).items() if name in weights for reader in r
    ]
    return sorted(set(found) - set(subject.products))


def _quantized(graph: onnx.ModelProto, inputs: Inputs, ignored: list[str], *, smooth: bool) -> onnx.ModelProto:
    outer = {node.name for node in graph.graph.node}  # the only ones that NNCF knows
    batch, number = batch_of(graph), number_of(inputs)
    examples = [
        {name: np.ascontiguousarray(values[start : start + batch]) for name, values in inputs.items()}
        for start in range(0, number - batch + 1, batch)
    ]
    with _silent():
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
    """NNCF, imported so that it tells nobody."""
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


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """NNCF logs and draws progress bars to the standard output, and its dependencies warn."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
