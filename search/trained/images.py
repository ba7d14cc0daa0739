"""The training images that a library is made from, and where it is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple, Self

import torch
from platformdirs import user_cache_dir
from torch import Tensor

from wb.core.errors import BadData
from wb.data import Dataset
from wb.data.batches import scored_at_once
from wb.models.model import Model
from wb.search.trained.config import TrainedConfig

VERSION = 3  # of what is in a library
LEAST = 24  # training images
TOKENS = 16_384  # of passages that score, each of which has as many scores as there are in the vocabulary


class Images(NamedTuple):
    """Those that alternatives are fitted to, and others that score them: (n, channels, height, width), or ids (n, N)."""

    fit: Tensor
    score: Tensor

    @classmethod
    def of(cls, data: Dataset, count: int, seed: int) -> Self:
        """`count` and half as many random training images, fewer where there are not so many.

        Raises:
            BadData: there are hardly any.
        """
        if len(data.train) < LEAST:
            raise BadData(
                f"{data.spec} has {len(data.train)} training {data.train.noun}; alternatives need {LEAST} at least"
            )
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))
        fit = min(count, 2 * len(order) // 3)
        score = scored_at_once(data.train, max(fit // 2, 1), TOKENS)
        parts = order[:fit], order[fit : fit + score]
        return cls(*(torch.from_numpy(data.train.inputs(part.sort().values.numpy())) for part in parts))


def folder_of(model: Model, data: Dataset, config: TrainedConfig) -> Path:
    """The folder of the library of that model, data and settings, in the user's cache."""
    what = [
        VERSION,
        model.fingerprint(),
        data.fingerprint,
        config.calibration,
        config.align,
        config.distil,
        config.seed,
        *config.mixers,
    ]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
    return Path(user_cache_dir("wb")) / "libraries" / key
