"""Random inputs for exporting a network, comparing it with its graph, and counting it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wb.core.specs import Spec


def made_up(specs: Sequence[Spec], batch: int, seed: int = 0) -> dict[str, Tensor]:
    """Random arrays for `specs`, by name: `batch` examples, uniform in [0, 1), determined by the seed."""
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: torch.rand(spec.sized(batch), generator=generator) for spec in specs}


def shapes_only(specs: Sequence[Spec], batch: int) -> dict[str, Tensor]:
    """Arrays of the same shapes on the `meta` device, without values."""
    return {spec.name: torch.empty(spec.sized(batch), device="meta") for spec in specs}
