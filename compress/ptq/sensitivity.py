"""Sensitivity of groups: the error and the savings of quantizing one group at a time.

Source: one-at-a-time sensitivity by the divergence of the outputs, as in Cai et al., "ZeroQ", CVPR 2020
(Kullback-Leibler divergence of the quantized model from the original).
Differs: everything is measured on exported graphs, in the runtime that will run them.
Limits: the effect of several groups together is not the sum of theirs. The latency saved by one group would be a difference
of nearly equal numbers, so all groups of one kind are quantized at once, and the difference is shared equally. Convolutions
with fixed ranges are faster in 8 bits only where their neighbours are, so all of them are one kind, and share by weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import onnx

from wb.compress.ptq.calibration import Inputs, batch_of
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.subject import Subject
from wb.core.errors import BadArtefact, Unsupported
from wb.core.records import Frozen, Precision
from wb.export.lowering import scopes
from wb.export.lowering.products import linear_nodes
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device

TIMED_S = 1.5  # seconds of timing per kind of groups, at most

Key = tuple[str, Precision]  # a group and a precision
Kind = tuple[object, ...]  # operators and shapes of weights, and the precision


class Sensitivity(Frozen):
    """The sensitivity of one group in one precision, with all others in floating point.

    `error` is the measured divergence of the outputs (`wb.compress.ptq.outputs.Error`). `saved` are the bytes by which the
    file is smaller; of a convolution with fixed ranges those of its weights, as it shares ranges with its neighbours.
    `faster` are the measured ms by which a run is faster (negative: slower), with a 95 % interval; None if not timed.
    """

    group: str
    precision: Precision
    error: float
    saved: int
    faster: float | None = None
    faster_low: float | None = None
    faster_high: float | None = None


def sensitivities(
    subject: Subject,
    inputs: Inputs,
    device: Device,
    *,
    known: Sequence[Sensitivity] = (),
    timed: bool,
    keep: Collection[str] = (),
    found: Callable[[Sensitivity], None],
    report: Callable[[str, int, int], None],
) -> list[Sensitivity]:
    """Measures every group outside `keep` in each of its precisions; those that a quantizer or the runtime refuses are left out.

    `known` ones are not measured again, unless a timing is wanted and missing. `found` is called with each new one.

    Raises:
        BadArtefact: the float graph does not run on the inputs.
        Unsupported: no inputs can be made for timing.
    """
    keys = [(g, p) for g in subject.groups if g not in keep for p in subject.options[g] if p != "fp32"]
    done = {(one.group, one.precision): one for one in known if one.faster is not None or not timed}
    todo = [key for key in keys if key not in done]
    if not todo:
        return [done[key] for key in keys]
    report("timing groups" if timed else "outputs in floating point", 0, len(todo))
    faster = speeds(subject, keys, device) if timed else {}
    floating = outputs(subject.graph, inputs, device)
    whole = subject.graph.ByteSize()
    for i, (group, precision) in enumerate(todo):
        report(f"sensitivity of {group} in {precision}", i, len(todo))
        try:
            graph = subject.lowered({group: precision})
            error = compare(floating, outputs(graph, inputs, device), tokens=subject.continues).divergence
        except (BadArtefact, Unsupported):
            continue
        if timed and (group, precision) not in faster:
            continue
        value, low, high = faster.get((group, precision), (None, None, None))
        one = Sensitivity(
            group=group,
            precision=precision,
            error=error,
            saved=_saved_weights(subject, group) or whole - graph.ByteSize(),
            faster=value,
            faster_low=low,
            faster_high=high,
        )
        done[group, precision] = one
        found(one)
    report("sensitivities", len(todo), len(todo))
    return [done[key] for key in keys if key in done]


def speeds(subject: Subject, keys: Iterable[Key], device: Device) -> dict[Key, tuple[float, float, float]]:
    """Key -> ms that the group saves in its precision, with the 95 % interval; groups that cannot be lowered are left out.

    Groups with the same operators, shapes and precision are one kind, and so are all convolutions with fixed ranges. All groups
    of a kind are lowered at once, and timed together with the float graph and the other kinds.

    Raises:
        Unsupported: no inputs can be made for the graph (`wb.hardware.device.example_inputs`).
    """
    kinds: dict[Kind, list[Key]] = {}
    weights = _shapes(subject.graph)
    for group, precision in keys:
        kind: Kind = (*(weights[node] for node in subject.groups[group]), precision)
        if subject.ranges is not None and subject.convolution(group):
            kind = ("convolutions", precision)
        kinds.setdefault(kind, []).append((group, precision))
    graphs = {"float": subject.graph.SerializeToString()}
    members: dict[str, list[Key]] = {}
    for same in kinds.values():
        group, precision = same[0]
        try:
            graph = subject.lowered(dict(same)).SerializeToString()
        except Unsupported:
            continue
        name = f"{group} {precision}"
        graphs[name], members[name] = graph, same
    measured = measure_latency(graphs, device, batch=batch_of(subject.graph), cap_s=TIMED_S * len(graphs))
    found = {}
    for name, same in members.items():
        sizes = [sum(subject.products[node].numbers for node in subject.groups[group]) for group, _ in same]
        for key, size in zip(same, sizes, strict=True):  # equal sizes within a kind of equal shapes
            found[key] = _difference(measured["float"], measured[name], size / sum(sizes))
    return found


def _difference(floating: Latency, lowered: Latency, share: float) -> tuple[float, float, float]:
    """The ms that a group saves with its `share`, with interval; from ratios to the reference, whose pace both share."""
    a, b = floating.ratio, lowered.ratio
    pace = floating.reading.value / a.value
    a_low, a_high = a.interval or (a.value, a.value)
    b_low, b_high = b.interval or (b.value, b.value)
    value = a.value - b.value
    low = value - math.hypot(a.value - a_low, b_high - b.value)
    high = value + math.hypot(a_high - a.value, b.value - b_low)
    return value * pace * share, low * pace * share, high * pace * share


def _saved_weights(subject: Subject, group: str) -> int:
    """The bytes that weights of convolutions with fixed ranges save in 8 bits; 0 for other groups."""
    fixed = subject.ranges is not None and subject.convolution(group)
    return 3 * sum(subject.products[node].numbers for node in subject.groups[group]) if fixed else 0


def _shapes(graph: onnx.ModelProto) -> Mapping[str, tuple[object, ...]]:
    """Node with weights -> its operator, the shape of the weights, and its attributes."""
    dims = {tensor.name: tuple(tensor.dims) for tensor in graph.graph.initializer}
    nodes = {node.name: node for _, node in scopes.nodes(graph.graph)}
    return {
        name: (
            nodes[name].op_type,
            dims[weight],
            *sorted(attribute.SerializeToString(deterministic=True) for attribute in nodes[name].attribute),
        )
        for name, weight in linear_nodes(graph).items()
    }
