"""What can be counted without running anything: parameters, multiply-accumulates."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from wb.core.architecture import Architecture
from wb.core.readings import Reading
from wb.models.network import build


def count_parameters(architecture: Architecture) -> Reading:
    """All trainable numbers of the network."""
    count = sum(p.numel() for p in build(architecture, "meta").parameters())
    return Reading(value=count, unit="parameters", how="counted")


def count_macs(architecture: Architecture) -> Reading:
    """Multiply-accumulates of one image: matrix products and convolutions, as torch counts them.

    Counted on the `meta` device, where attention is not hidden in a fused kernel (on the CPU torch leaves that out).
    Limits: norms, softmax, pooling and biases count as nothing.
    """
    network = build(architecture.compact(), "meta")
    image = torch.empty(
        1, architecture.input.channels, architecture.input.height, architecture.input.width, device="meta"
    )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return Reading(value=counter.get_total_flops() / 2, unit="MAC", how="counted")
