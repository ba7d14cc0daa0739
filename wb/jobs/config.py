"""Fields that the configurations of all jobs share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.records import Frozen


class DataConfig(Frozen):
    """The data of a job; `data` is None for a job without data."""

    data: str | None = "digits"
    image_size: int | None = None
    limit: int | None = None  # training images


class JobConfig(DataConfig):
    """The other fields of every job on trained models: how classes are matched, and where the job runs."""

    by_index: bool = False  # match classes by index although their names differ
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
