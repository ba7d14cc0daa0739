"""What a graph that continues texts is given before the first token; loads neither torch nor the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.specs import BATCH, PAST

PASTS = "past_key_values."  # in front of the names of its inputs


def empty_pasts(inputs: Mapping[str, Sequence[Any]], texts: int) -> dict[str, NDArray[np.float32]]:
    """What a graph with such inputs, by their shapes, is given before the first token of so many texts; nothing for others."""
    return {
        name: np.zeros(_begun(shape, texts), np.float32) for name, shape in inputs.items() if name.startswith(PASTS)
    }


def _begun(shape: Sequence[Any], texts: int) -> tuple[int, ...]:
    """The shape of what is kept before the first token."""
    sizes = {BATCH: texts, PAST: 0}
    return tuple(sizes.get(str(size), size) for size in shape)
