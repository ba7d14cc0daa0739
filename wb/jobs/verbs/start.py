"""The trained model that `wb train --from` goes on with, and the data as it takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from wb.core.commands.option import option_of
from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import near
from wb.data import Dataset
from wb.foreign.reading import load
from wb.jobs.frame.config import TrainConfig
from wb.jobs.inputs import Say
from wb.jobs.reading import load_sized
from wb.jobs.reading import taken as as_taken
from wb.models.model import Model
from wb.tasks.known import task_of
from wb.tasks.names import check_task, listed
from wb.tasks.suited import fitted, suited
from wb.training.fit import pick_device
from wb.training.train import score


class Start(NamedTuple):
    """The model as it was read, but for the names of its classes where it had none, and `data` with classes in its order.

    `known` is what it makes of the validation images with its own head; None where it needs a new one.
    """

    model: Model
    data: Dataset
    known: Reading | None


def read_start(config: TrainConfig, say: Say) -> Start:
    """The model of `config`, its data at the size that it takes, and whether it needs a new head; `say` tells which and why.

    It keeps its head if its classes are those of the data, by name. Where it does not name them, it does so if there are as
    many and it knows more of the data than chance.

    Raises:
        BadArtefact: the file cannot be read or is no model.
        BadData: the data are damaged, or have images that the model does not take.
        BadOption: the checkpoint needs options.
        Unsupported: a checkpoint of another family.
    """
    if config.model is None:
        raise ValueError("there is no model to start from")
    name, model = str(config.model), load(config.model)
    given = load_sized(config.data, model.architecture, name, say, image_size=config.image_size, limit=config.limit)
    given = as_taken(given, model.architecture, model.history)
    given, told = suited(given, model.architecture, name)
    for note in told:
        say(note)
    check_task(model.architecture, given)
    head = model.architecture.head
    if head.foresees:
        return _foreseeing(config, model, given)
    had = f"it had {head.classes}{f' ({listed(head.labels)})' if head.labels else ''}"
    other = set(head.labels) != set(given.classes) if head.labels else head.classes != len(given.classes)
    if config.by_index or not (other or config.new_head):
        data, notes = fitted(given, model.architecture, name, by_index=config.by_index)
        same = replace(model, architecture=model.architecture.with_labels(data.classes))
        known = score(same.network(pick_device()), data.validation, task_of(same.architecture), pick_device())
        chance = near(known.value, float(np.bincount(data.validation.labels).max()) / len(data.validation))
        metric = METRICS[task_of(same.architecture).metric].title
        text = f"{metric} {known.text()} on the validation {data.validation.noun} before training"
        if head.labels or config.by_index or not chance:
            hint = "which is near chance; --new-head begins with one that is fitted to the data"
            other_head = hint if chance else "--new-head gives it another"
            for note in (*notes, f"{name} keeps its head for the {head.classes} classes: {text}; {other_head}"):
                say(note)
            return Start(same, data, known)
        had = f"its own, whose classes have no names, has {text}, which is near chance; --by-index keeps it"
    say(f"{name} gets a new head for the {len(given.classes)} classes of {given.spec} ({listed(given.classes)}); {had}")
    return Start(model, given, None)


def _foreseeing(config: TrainConfig, model: Model, data: Dataset) -> Start:
    """A model of the next token, which has no classes and keeps its head."""
    wrong = [name for name in ("new_head", "freeze", "by_index") if getattr(config, name)]
    if wrong:
        raise BadOption(
            f"{option_of(TrainConfig, wrong[0])} is of heads for classes, and {config.model} foresees the next token; leave it "
            "out"
        )
    found = score(model.network(pick_device()), data.validation, task_of(model.architecture), pick_device())
    return Start(model, data, found)
