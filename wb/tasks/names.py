"""Matching of classes between data and a model, by name or by index."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from wb.core.architecture import Architecture
from wb.core.errors import BadData
from wb.data import Dataset, Split

SHOWN = 10  # names in a message


def matched(
    data: Dataset,
    labels: Sequence[str],
    classes: int | None,
    model: str,
    *,
    by_index: bool = False,
    trains: bool = False,
) -> tuple[Dataset, list[str]]:
    """`data` with labels in the order of a model's classes, and notes for the user.

    `labels` are the model's class names and `classes` their number, None if unknown; `model` names it in messages. Data may
    lack classes of the model, but must not have others. Classes are matched by index if the model has no names (`labels` is
    empty) or with `by_index`, which ignores its names. If the model is one that `wb` trains, errors offer it another head.

    Raises:
        BadData: data have classes that the model lacks, or without names another number.
    """
    offer = f", {another_head(data, model)}" if trains else ""
    if labels and not by_index:
        return _by_name(data, tuple(labels), model, offer)
    return _by_index(data, tuple(labels), classes, model, offer, insisted=by_index)


def check_task(architecture: Architecture, data: Dataset) -> None:
    """Raises `BadData` unless the labels of `data` are what a network like `architecture` answers."""
    if architecture.head.task == data.task:
        return
    if data.task == "classes":
        raise BadData(
            f"data {data.spec!r} have classes, and the network foresees the next token; name a text with --data lm:FILE"
        )
    raise BadData(
        f"data {data.spec!r} are {data.train.noun} without classes, and the network answers with classes; name data that have "
        "some with --data"
    )


def check_names(labels: Sequence[str], data: Dataset) -> None:
    """Raises `BadData` unless `data` have the classes named `labels`, in that order; see `matched`."""
    if labels and tuple(labels) != data.classes:
        raise BadData(
            f"the classes of {data.spec} are {listed(data.classes)}, and those of the model {listed(labels)}; they have to be "
            "the same, in the same order"
        )


def another_head(data: Dataset, model: str = "MODEL") -> str:
    """The next step where classes do not fit a model: the command that gives it a head for those of `data`.

    `model` is its name in messages, which is its file if there is one of that name.
    """
    file = Path(model)
    source = shlex.quote(model) if file.suffix != ".onnx" and file.exists() else "MODEL"
    return f"or give the model a new head: wb train --from {source} --data {shlex.quote(data.spec)} -o NEW.safetensors"


def listed(names: Sequence[str]) -> str:
    """`a, b, c`; a long list is cut."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _by_name(data: Dataset, labels: tuple[str, ...], model: str, offer: str) -> tuple[Dataset, list[str]]:
    if labels == data.classes:
        return data, []
    twice = len(set(labels)) < len(labels) or len(set(data.classes)) < len(data.classes)
    unknown = [name for name in data.classes if name not in labels]
    if twice or unknown:
        index = (
            "rename them like the model's, or insist with --by-index, which takes them in their order"
            if len(data.classes) <= len(labels)
            else "leave the others out"
        )
        what = (
            f"{listed(unknown)} {'is' if len(unknown) == 1 else 'are'} not among the latter"
            if unknown
            else "a name is there twice"
        )
        raise BadData(
            f"the classes of {data.spec} are {listed(data.classes)}, and those of {model} {listed(labels)}: {what}; "
            f"{index}{offer}"
        )
    missing = [name for name in labels if name not in data.classes]
    index_of = np.array([labels.index(name) for name in data.classes])
    note = f"{data.spec} has no {listed(missing)}: {len(missing)} of the {len(labels)} classes of {model} are left out"
    return _moved(data, labels, index_of), [note] if missing else []


def _by_index(
    data: Dataset, labels: tuple[str, ...], classes: int | None, model: str, offer: str, *, insisted: bool
) -> tuple[Dataset, list[str]]:
    given, wanted = len(data.classes), len(data.classes) if classes is None else classes
    if given > wanted or (given < wanted and not insisted):
        more = "" if given > wanted else ", or insist with --by-index, which takes the first ones"
        raise BadData(
            f"{data.spec} has {given} classes ({listed(data.classes)}), and {model} has {wanted}"
            f"{f' ({listed(labels)})' if labels else ', which are not named'}; name data with those "
            f"classes{more}{offer}"
        )
    names = labels or (*data.classes, *(f"class {i}" for i in range(given, wanted)))
    if labels == data.classes:
        return data, []
    why = "as --by-index says" if insisted else f"for {model} does not name its own"
    pairs = [f"{name} as {label}" for name, label in zip(data.classes, labels, strict=False)]
    return replace(data, classes=names), [
        f"the classes of {data.spec} are taken in their order, {why}: {listed(pairs or data.classes)}"
    ]


def _moved(data: Dataset, labels: tuple[str, ...], index: np.ndarray[tuple[int], np.dtype[np.intp]]) -> Dataset:
    def moved(split: Split) -> Split:
        return split.labelled(index[split.labels].astype(np.int64))

    train, validation, test = (moved(split) for split in (data.train, data.validation, data.test))
    return replace(data, classes=labels, train=train, validation=validation, test=test)
