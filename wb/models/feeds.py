"""Inputs for a network whose values do not matter: to export it, to compare it with its graph, to count it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wb.core.specs import Spec


def made_up(specs: Sequence[Spec], batch: int, seed: int = 0) -> dict[str, Tensor]:
    """An array for each of `specs`, by name: `batch` examples, uniform in [0, 1), the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: torch.rand(spec.sized(batch), generator=generator) for spec in specs}


def shapes_only(specs: Sequence[Spec], batch: int) -> dict[str, Tensor]:
    """The same on the `meta` device, without values."""
    return {spec.name: torch.empty(spec.sized(batch), device="meta") for spec in specs}
