"""The trained model that `wb train --from` goes on with, and the data as it takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from wb.data import Dataset
from wb.data import load as load_data
from wb.foreign.reading import load
from wb.jobs.config import TrainConfig
from wb.jobs.inputs import Say
from wb.models.model import Model
from wb.tasks.names import listed
from wb.training.train import check_images, fitted


class Start(NamedTuple):
    """The model as it was read, but for the names of its classes where it had none, and `data` with classes in its order."""

    model: Model
    data: Dataset
    new_head: bool


def read_start(config: TrainConfig, say: Say) -> Start:
    """The model of `config`, its data at the size that it takes, and whether it needs a new head; `say` tells which and why.

    It keeps its head if its classes are those of the data: by name, or by their number where it does not name them.

    Raises:
        BadArtefact: the file cannot be read or is no model.
        BadData: the data are damaged, or have images that the model does not take.
        BadOption: the checkpoint needs options.
        Unsupported: a checkpoint of another family.
    """
    if config.model is None:
        raise ValueError("there is no model to start from")
    name, model = str(config.model), load(config.model)
    data = _data(config, model, say)
    check_images(model.architecture, data)
    head = model.architecture.head
    other = set(head.labels) != set(data.classes) if head.labels else head.classes != len(data.classes)
    if not config.by_index and (other or config.new_head):
        theirs = f" ({listed(head.labels)})" if head.labels else ""
        say(
            f"{name} gets a new head for the {len(data.classes)} classes of {data.spec} ({listed(data.classes)}); it had "
            f"{head.classes}{theirs}"
        )
        return Start(model, data, True)
    data, notes = fitted(data, model.architecture, name, by_index=config.by_index)
    for note in notes:
        say(note)
    say(f"{name} keeps its head for the {head.classes} classes; --new-head gives it another")
    return Start(replace(model, architecture=model.architecture.with_labels(data.classes)), data, False)


def _data(config: TrainConfig, model: Model, say: Say) -> Dataset:
    """The data; images without a size of their own in `config` are resized where the model takes squares."""
    data = load_data(config.data, image_size=config.image_size, limit=config.limit)
    taken = model.architecture.input
    size = (taken.height, taken.width)
    if config.image_size is not None or (data.height, data.width) == size or taken.height != taken.width:
        return data
    say(f"images of {data.height}x{data.width} are resized to {taken.height}x{taken.width}, which {config.model} takes")
    return load_data(config.data, image_size=taken.height, limit=config.limit)
