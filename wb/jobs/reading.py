"""The data of a command's model, read: with classes in its order, images of its size, texts in the words of its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact
from wb.data import Dataset
from wb.data import load as load_data
from wb.data.preparation import Preparation, described
from wb.data.spec import FOLDERS, HUB, Spec, resolved
from wb.export.graph import read_classes
from wb.export.texts import read_vocabulary
from wb.foreign.origin import STEP as IMPORT
from wb.jobs.frame.config import JobConfig
from wb.jobs.inputs import STOCK, Choice, Say, about, read_model
from wb.models.files.history import data_of, tokenizer_of
from wb.models.model import Model, Step
from wb.tasks.names import check_task, matched
from wb.tasks.suited import fitted

UNWRITTEN = (
    "the model was imported without a tokenizer, so that no text can be written for it; put its tokenizer.json beside its "
    "weights and import it again"
)


def read_for(config: JobConfig, file: Path | None, seed: int, progress: Progress, *, say: Say) -> tuple[Model, Dataset]:
    """The model and the data of a job, read on its threads. Raises as `read` does."""
    torch.set_num_threads(config.threads)
    return read(file, Choice.of(config), seed, progress, say=say, by_index=config.by_index)


def read(
    file: Path | None,
    choice: Choice,
    seed: int,
    progress: Progress,
    *,
    say: Say,
    by_index: bool,
) -> tuple[Model, Dataset]:
    """The model in `file`, or the stock model, and its data with classes in the model's order; `say` gets notes on both.

    Texts are written with its own tokenizer.

    Raises:
        BadData: the data are damaged or do not fit the model, or have other classes.
        WbError: as `read_model` and `wb.data.load` say.
    """
    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit, own_words=False)
    model = read_model(file, data, seed, progress)
    data, notes = fitted(
        taken(data, model.architecture, model.history),
        model.architecture,
        str(file or "the stock model"),
        by_index=by_index,
    )
    for note in (*notes, *changed(model.history, data)):
        say(note)
    return model, data


def read_data(
    file: Path, choice: Choice, images: Preparation | None = None, *, by_index: bool
) -> tuple[Dataset, list[str]]:
    """The data for the model or graph in `file`, with classes in its order, and notes for the user.

    For a foreign graph, `images` prepares the images.

    Raises:
        BadArtefact: no model and no ONNX file, or damaged metadata.
        BadData: the data are damaged or do not fit the model, or have other classes.
        BadOption: `images` are of another number of channels.
    """
    data = load_data(choice.spec or STOCK, image_size=choice.image_size, limit=choice.limit, own_words=False)
    architecture, history = about(file)
    if architecture is not None:
        data, notes = fitted(taken(data, architecture, history), architecture, str(file), by_index=by_index)
        return data, [*notes, *changed(history, data)]
    vocabulary = read_vocabulary(file)
    if vocabulary is not None and data.train.vocabulary is not None:
        data = data.written_by(vocabulary)
    labels, classes = read_classes(file)
    data, notes = matched(data, labels, classes, str(file), by_index=by_index)
    if data.train.vocabulary is not None and images is None:
        return data, notes
    return data.prepared(images), [described(images), *notes]


def taken(data: Dataset, architecture: Architecture, history: Iterable[Step]) -> Dataset:
    """`data` as a model with that history takes them: texts written with its own tokenizer and cut to its longest.

    Data that say a shorter length have that.

    Raises:
        BadArtefact: the model was imported without a tokenizer, so that its ids mean nothing here.
        BadData: the texts have classes and the model foresees tokens, or the other way round.
    """
    steps = tuple(history)
    tokenizer = tokenizer_of(steps)
    if data.train.vocabulary is None or (tokenizer is None and not any(step.name == IMPORT for step in steps)):
        return data
    if tokenizer is None:
        raise BadArtefact(UNWRITTEN)
    check_task(architecture, data)  # before their lengths are looked at
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    asked = dict(Spec.parse(data.spec).choices).get("length")
    longest = int(architecture.layout.shape[0])
    length = longest if asked is None else min(longest, int(asked))
    usual = min(length, architecture.input.usual_tokens or length)
    return data.written_by(Vocabulary(tokenizer, length, usual))


def load_sized(
    spec: str,
    architecture: Architecture,
    model: str,
    say: Say,
    *,
    image_size: int | None = None,
    limit: int | None = None,
) -> Dataset:
    """The data that `spec` names; images have the size that `architecture` takes, if that is a square and none is asked for.

    `model` is its name for `say`. Raises as `wb.data.load` does.
    """
    if architecture.input.usual_tokens is not None:
        return load_data(spec, limit=limit, own_words=False)
    taken, parsed = architecture.image, Spec.parse(spec)
    square = image_size is None and taken.height == taken.width and not parsed.features
    at_once = square and parsed.form in (FOLDERS, HUB)  # files are decoded once
    data = load_data(spec, image_size=taken.height if at_once else image_size, limit=limit)
    if data.train.vocabulary is not None:
        return data
    if not square or (data.height, data.width) == (taken.height, taken.width):
        return data
    say(f"images of {data.height}x{data.width} are resized to {taken.height}x{taken.width}, which {model} takes")
    return load_data(spec, image_size=taken.height, limit=limit)


def changed(history: Iterable[Step], data: Dataset) -> list[str]:
    """A note if `data` are those of the history by name, but have other content."""
    known = data_of(history)
    if known is None or known.fingerprint in (None, data.fingerprint):
        return []
    if (resolved(known.spec), known.limit) != (data.spec, data.limit):
        return []
    return [
        f"{data.spec} has changed since the model was trained with it (fingerprint {data.fingerprint}, then {known.fingerprint})"
    ]
