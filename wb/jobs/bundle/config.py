"""The configuration of `wb bundle`; loads no torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.commands.option import Cli
from wb.jobs.frame.config import MeasureConfig


class BundleConfig(MeasureConfig):
    """How a network is measured for its bundle, and the licence of its weights."""

    licence: Annotated[
        str | None,
        Field(description="Licence of the weights: its name, or a file with its text, which is put in."),
        Cli(default="none is stated"),
    ] = None
