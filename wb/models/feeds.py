"""Random inputs for exporting a network, comparing it with its graph, and counting it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wb.core.specs import MASK, Spec

_DTYPES = {"float32": torch.float32, "int64": torch.int64}

TOKENS = 5  # of a text that is made up, where nothing else is said


def made_up(specs: Sequence[Spec], batch: int, seed: int = 0, tokens: int = TOKENS) -> dict[str, Tensor]:
    """Random arrays for `specs`, by name, determined by the seed: `batch` examples, of `tokens` tokens if they are texts.

    Numbers are uniform in [0, 1), integers in their range; masks leave out some tokens at the ends of texts.
    """
    generator = torch.Generator().manual_seed(seed)
    return {spec.name: _random(spec, spec.sized(batch, tokens), generator) for spec in specs}


def shapes_only(specs: Sequence[Spec], batch: int, tokens: int = TOKENS) -> dict[str, Tensor]:
    """Arrays of the same shapes on the `meta` device, without values."""
    return {
        spec.name: torch.empty(spec.sized(batch, tokens), device="meta", dtype=_DTYPES[spec.dtype]) for spec in specs
    }


def _random(spec: Spec, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    if spec.below is None:
        return torch.rand(shape, generator=generator)
    found = torch.randint(0, spec.below, shape, generator=generator)
    return found.sort(dim=1, descending=True).values if spec.name == MASK else found
