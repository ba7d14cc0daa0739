"""The configuration of `wb analyze attention`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.records import Frozen
from wb.jobs.frame.config import ByIndex, ModelData, ModelSize, Seed, Threads, Truncate


class AttentionConfig(Frozen):
    """On which data attention is looked at: at most `limit` examples of `split`; and when a head counts as frozen."""

    data: ModelData | None = None
    split: Annotated[str, Field(description="Examples to look at: validation or train.")] = "validation"
    image_size: ModelSize = None
    limit: Annotated[int, Field(ge=1, description="Look at no more than this many examples.")] = 64
    still: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="A head is frozen from the epoch on after which its weights stay within this total variation of those "
            "in the end.",
        ),
    ] = 0.1
    by_index: ByIndex = False
    truncate: Truncate = False
    threads: Threads = 1
    seed: Seed = 0
