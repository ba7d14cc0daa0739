"""The model and the data of `wb exits`: a model, or one that has exits already."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from wb.compress.exits.config import ExitsConfig
from wb.core.commands.progress import Progress
from wb.data import Dataset
from wb.jobs.inputs import Choice
from wb.jobs.reading import read_data, read_for
from wb.models.exits.files import exits_of, load_exiting
from wb.models.exits.module import Exiting
from wb.models.model import Model


def is_exiting(file: Path | None) -> bool:
    """Whether the file is a model with early exits. Raises `BadArtefact` where what it says of them is damaged."""
    return file is not None and exits_of(file) is not None


def read(
    config: ExitsConfig, file: Path | None, progress: Progress, say: Callable[[str], None]
) -> tuple[Model | Exiting, Dataset]:
    """The model in `file`, or the stock model, and its data. Raises as `wb.jobs.reading.read_for` and `load_exiting` do."""
    if file is None or not is_exiting(file):
        return read_for(config, file, config.seed, progress, say=say)
    torch.set_num_threads(config.threads)
    data, notes = read_data(file, Choice.of(config), by_index=config.by_index)
    for note in notes:
        say(note)
    return load_exiting(file), data
