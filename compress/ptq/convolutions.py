"""Int8 for networks with stages of convolutions: these static, with ranges from calibration inputs, other products as they come.

Source: ONNX Runtime's `quantize_static` (`wb.compress.ptq.qdq`) and `quantize_dynamic`.
Differs: the first stages, whose maps have few channels, and the head stay in floating point where that is measured to be faster.
Limits: the runtime computes a convolution in 8 bits only where its input and its output have ranges of one type, and NNCF, which
quantizes other graphs (`wb.compress.ptq.static`), gives outputs of ReLU another type than the stream. Its graphs of such a
network were twice as slow as floating point, and these are faster.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from wb.compress.ptq.calibration import Inputs, batch_of, first
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.static import REFUSED, Static
from wb.compress.ptq.subject import Subject
from wb.core.errors import BadOption, Unsupported, WbError
from wb.export.lowering.products import lowered_nodes
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device

FASTER = "measured to be faster so"
GAIN = 0.02  # by which a graph has to be faster for more of it to stay in floating point
TIMED_S = 1.5  # seconds of timing per graph, at most


def static_products(subject: Subject, inputs: Inputs, keep: Collection[str] = ()) -> Static:
    """Quantizes all groups except those of `keep`: convolutions with ranges from `inputs`, other products as the subject says.

    Raises:
        BadOption: a group of `keep` does not exist, or no group is left to quantize.
        Unsupported: a quantizer fails, or the runtime on what it made.
    """
    unknown = sorted(set(keep) - set(subject.groups))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; there are {', '.join(subject.groups)}")
    wanted = [group for group in subject.groups if group not in keep and "int8" in subject.options[group]]
    if not wanted:
        raise BadOption("every group is to be kept in floating point, so there is nothing to quantize; keep fewer")
    graph = replace(subject, ranges=inputs).lowered(dict.fromkeys(wanted, "int8"))
    try:
        outputs(graph, first(inputs, 4 * batch_of(graph)), Device())
    except WbError as error:
        raise Unsupported(f"the quantized graph is of no use: {error}. Try --policy int8-dynamic") from error
    low = set(lowered_nodes(graph))
    found = tuple(group for group in wanted if low.issuperset(subject.groups[group]))
    return Static(graph, found, {group: REFUSED for group in wanted if group not in found})


def slow_in_8_bits(
    subject: Subject, inputs: Inputs, device: Device, keep: Collection[str] = (), *, cap_s: float = TIMED_S
) -> tuple[str, ...]:
    """The groups that stay in floating point beside `keep` because that is measured to be faster: before some stage, the head.

    At most `cap_s` seconds of timing for each graph. Raises as `static_products`.
    """

    def leaves(more: Collection[str]) -> bool:
        return any("int8" in subject.options[group] for group in subject.groups if group not in {*keep, *more})

    beginnings = [tuple(group for group in found if group not in keep) for found in _beginnings(subject)]
    ways = [(), *(found for found in beginnings if found and leaves(found))]
    more = _fastest(subject, inputs, device, keep, ways, cap_s)
    if "head" in subject.groups and "head" not in keep and leaves((*more, "head")):
        more = _fastest(subject, inputs, device, keep, [more, (*more, "head")], cap_s)
    return more


def without(subject: Subject, inputs: Inputs, keep: Collection[str], slow: Collection[str]) -> Static:
    """Quantizes all groups except those of `keep` and the `slow` ones. Raises as `static_products`."""
    static = static_products(subject, inputs, {*keep, *slow})
    return replace(static, reasons={**static.reasons, **dict.fromkeys(slow, FASTER)})


def _beginnings(subject: Subject) -> list[tuple[str, ...]]:
    """The groups before each stage but the first."""
    stages = list(dict.fromkeys(group.split(".")[0] for group in subject.groups if group != "head"))
    return [
        tuple(group for group in subject.groups if group.split(".")[0] in stages[:n]) for n in range(1, len(stages))
    ]


def _fastest(
    subject: Subject,
    inputs: Inputs,
    device: Device,
    keep: Collection[str],
    ways: Sequence[tuple[str, ...]],
    cap_s: float,
) -> tuple[str, ...]:
    """Of the `ways` to keep more groups, which keep more and more, the first that is about as fast as the fastest.

    Ranges do not matter for the time, so they are those of few inputs.
    """
    few = first(inputs, batch_of(subject.graph))
    graphs = {
        str(i): static_products(subject, few, {*keep, *more}).graph.SerializeToString() for i, more in enumerate(ways)
    }
    if len(graphs) == 1:
        return ways[0]
    found = measure_latency(graphs, device, batch=batch_of(subject.graph), cap_s=cap_s * len(graphs))
    times = [found[name].ratio.value for name in graphs]
    return next(more for more, time in zip(ways, times, strict=True) if time <= (1 + GAIN) * min(times))
