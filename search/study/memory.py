"""Memory check: whether this machine can train the supernet of a space, computed before anything is allocated."""

from __future__ import annotations

import os
from contextlib import suppress

from wb.core.errors import BadOption
from wb.core.measures.readings import scaled
from wb.models.network import skeleton
from wb.spaces.base import NetworkSpace

TRAINING = 16  # bytes per weight in training: weight, gradient and Adam's two moments in float32


def check_memory(space: NetworkSpace) -> None:
    """Raises `BadOption` if training the supernet of `space` takes more memory than this process may use."""
    advice = "choose fewer or smaller options with --set, or another preset (see `wb spaces`)"
    try:
        weights = count_weights(space)
    except (RuntimeError, OverflowError, MemoryError):  # sizes that no tensor can have
        weights = None
    have = memory()
    if weights is None:
        raise BadOption(f"the supernet of this space has more weights than can be counted; {advice}")
    if have is not None and TRAINING * weights > have:
        raise BadOption(
            f"the supernet of this space has {scaled(weights, 'parameters')} weights, and training it takes "
            f"{scaled(TRAINING * weights, 'B')} of memory, of which there are {scaled(have, 'B')} here; {advice}"
        )


def count_weights(space: NetworkSpace) -> int:
    """The number of weights of the supernet: those of all its largest networks (`tops`), shared ones counted once."""
    sizes: dict[str, int] = {}
    for architecture in space.tops():
        for name, weight in skeleton(architecture).named_parameters():
            sizes.setdefault(name, weight.numel())
    return sum(sizes.values())


def memory() -> int | None:
    """Bytes of memory that this process may use; None if unknown."""
    found = []
    with suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with suppress(ImportError, ValueError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(limit)
    return min(found) if found else None
