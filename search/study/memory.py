"""Whether a machine can hold the supernet of a space, counted before anything is allocated."""

from __future__ import annotations

import os
from contextlib import suppress

from wb.core.errors import BadOption
from wb.core.readings import scaled
from wb.models.network import skeleton
from wb.spaces.vit import Vit

TRAINING = 16  # bytes a weight takes in training: itself, its gradient, two moments


def check_memory(space: Vit) -> None:
    """Raises `BadOption` where training the supernet takes more memory than this machine or process may have."""
    advice = "choose fewer or smaller options with --set, or another preset (see `wb spaces`)"
    try:
        weights = count_weights(space)
    except (RuntimeError, OverflowError, MemoryError):  # numbers that no tensor can have
        weights = None
    have = memory()
    if weights is None:
        raise BadOption(f"the supernet of this space has more weights than can be counted; {advice}")
    if have is not None and TRAINING * weights > have:
        raise BadOption(
            f"the supernet of this space has {scaled(weights, 'parameters')} weights, and training it takes "
            f"{scaled(TRAINING * weights, 'B')} of memory, of which there are {scaled(have, 'B')} here; {advice}"
        )


def count_weights(space: Vit) -> int:
    """Of the supernet: those of all kinds of largest networks, shared ones once."""
    sizes: dict[str, int] = {}
    for architecture in space.tops():
        for name, weight in skeleton(architecture).named_parameters():
            sizes.setdefault(name, weight.numel())
    return sum(sizes.values())


def memory() -> int | None:
    """Bytes that this process may have; None where the system does not say."""
    found = []
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError, ValueError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(limit)
    return min(found) if found else None
