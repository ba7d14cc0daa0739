"""The configuration of `wb analyze depth`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.records import Frozen
from wb.jobs.frame.config import ByIndex, ModelData, ModelSize, Seed, Threads, Truncate


class AnalyzeConfig(Frozen):
    """On which data a model is looked into: at most `limit` images of `split`."""

    data: ModelData | None = None
    split: Annotated[str, Field(description="Images to look at: validation or train.")] = "validation"
    image_size: ModelSize = None
    limit: Annotated[int, Field(ge=1, description="Look at no more than this many images.")] = 512
    by_index: ByIndex = False
    truncate: Truncate = False
    threads: Threads = 1
    seed: Seed = 0
