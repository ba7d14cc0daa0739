"""The configuration of `wb diff`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.commands.option import Cli
from wb.core.records import Frozen
from wb.jobs.frame.config import SAMPLES, ByIndex, ModelSize, Seed, Threads, Truncate

NONE = "none"  # for data: images are made up


class DiffConfig(Frozen):
    """On which images two models are compared: at most `images` of `split` of `data`, or as many made up by `seed`."""

    data: Annotated[
        str | None,
        Field(
            description="digits, imagefolder:PATH, idx:PATH (MNIST-style), cifar10:PATH, npz:FILE or hf:PLACE; of texts "
            "csv:FILES, jsonl:FILES, listops, lm:FILES or lm; none for what is made up."
        ),
        Cli(default="those that both were trained with, else none"),
    ] = None
    split: Annotated[str, Field(description="Images to compare outputs on: validation or train.")] = "validation"
    image_size: ModelSize = None
    images: Annotated[
        int, Field(ge=2, description="Compare outputs on no more than this many images."), Cli(SAMPLES)
    ] = 256
    by_index: ByIndex = False
    truncate: Truncate = False
    threads: Threads = 1
    seed: Seed = 0
