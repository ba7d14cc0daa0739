"""What the configurations of jobs have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.records import Frozen


class DataConfig(Frozen):
    """The data a job works on; `data` is None where it works without any."""

    data: str | None = "digits"
    image_size: int | None = None
    limit: int | None = None  # training images


class JobConfig(DataConfig):
    """What every job on trained models is told besides: how to take the classes, and where it runs."""

    by_index: bool = False  # classes of data and model that have other names
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1)] = 1
