"""Batches of tensors from a split, and the shift augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.errors import BadOption
from wb.data.split import Indices, Split

_SHARE = 0.04  # of the shorter side: how far `shift` moves larger images

SCORED = 2048  # tokens, of each of which a whole vocabulary has scores


def batches(
    split: Split, size: int, *, shuffle: bool, generator: torch.Generator | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Every example once, as networks take it, with int64 labels (b,): images are float32 in [0, 1] (b, channels, height,
    width), texts int64 ids (b, tokens), negative at padding. The last batch is smaller.

    No DataLoader: the split is in memory, and indexing it is faster than any worker. `shuffle` draws the order from
    `generator` (torch's global one without it), on the CPU.

    Raises:
        BadOption: `size` is below 1.
    """
    if size < 1:
        raise BadOption(f"a batch of {size} images is empty; choose a batch size of 1 or more")
    return _batches(split, size, shuffle, generator)


def scored_at_once(split: Split, size: int, tokens: int = SCORED) -> int:
    """How many examples, at most `size`, are scored at once: where each of their tokens has scores, those of so many `tokens`."""
    return size if split.labels.ndim == 1 or size < 1 else max(1, min(size, tokens // split.labels.shape[1]))


def typical(split: Split, size: int) -> tuple[Tensor, Tensor]:
    """One batch as `batches` gives them, to be timed in place of all: what texts take follows from their length."""
    index = split.typical(size)
    return torch.from_numpy(split.inputs(index)), torch.from_numpy(split.labels[index])


def _batches(
    split: Split, size: int, shuffle: bool, generator: torch.Generator | None
) -> Iterator[tuple[Tensor, Tensor]]:
    def shuffled(count: int) -> Indices:
        return torch.randperm(count, generator=generator).numpy()

    if shuffle:
        indices = split.drawn(shuffled(len(split)), size, shuffled)
    else:
        indices = (np.arange(start, min(start + size, len(split))) for start in range(0, len(split), size))
    for index in indices:
        yield torch.from_numpy(split.inputs(index)), torch.from_numpy(split.labels[index])


def shift(images: Tensor, generator: torch.Generator | None = None, pixels: int | None = None) -> Tensor:
    """Augmentation: moves the whole batch `images` (..., height, width) by one random shift, with probability one half.

    The shift is uniform in -`pixels`..`pixels` on each axis; the default is 4 % of the shorter side and at least 1. Pixels that
    enter are zero, which is black in images in [0, 1]. Always draws three numbers from `generator`, on the CPU.

    Raises:
        BadOption: `pixels` is negative.
    """
    height, width = images.shape[-2:]
    reach = max(1, round(_SHARE * min(height, width))) if pixels is None else pixels
    if reach < 0:
        raise BadOption(f"a shift of {reach} pixels is impossible; choose 0 or more")
    reach = min(reach, height - 1, width - 1)  # keeps at least one row and column
    down, right = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    if torch.rand((), generator=generator).item() < 0.5:
        return images
    # Negative padding crops.
    return F.pad(images, (right, -right, down, -down))
