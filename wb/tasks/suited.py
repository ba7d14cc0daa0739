"""Whether data are what a network takes: their images or texts, and their classes; and data made so, where that can be."""

from __future__ import annotations

import shlex

from wb.core.architecture import Architecture
from wb.core.errors import BadData
from wb.core.specs import IDS, PIXELS, fits
from wb.data import Dataset
from wb.data.spec import Spec
from wb.tasks.known import task_of
from wb.tasks.names import matched


def fitted(
    data: Dataset, architecture: Architecture, model: str, *, by_index: bool = False
) -> tuple[Dataset, list[str]]:
    """`data` as `suited`, with classes in the order of `architecture`, and notes for the user; `model` is its name in them.

    Raises:
        BadData: the images have another size, or the classes are others (`wb.tasks.names.matched`).
    """
    data, seen = suited(data, architecture, model)
    head = architecture.head
    data, notes = matched(data, head.labels, head.classes, model, by_index=by_index, trains=True)
    return data, [*seen, *notes]


def suited(data: Dataset, architecture: Architecture, model: str) -> tuple[Dataset, list[str]]:
    """`data` with images that `architecture` takes, and notes: grey ones become colour where that is all that is missing.

    Raises:
        BadData: they have another size, or colours where grey is taken.
    """
    notes = []
    images = data.train.vocabulary is None and architecture.input.usual_tokens is None
    if images and architecture.image.channels == 3 and data.channels == 1 and not data.features:
        data = data.in_colour()
        notes.append(f"{model} takes images in colour: grey ones are given to it three times, as red, green and blue")
    check_images(architecture, data)
    return data, notes


def check_fits(architecture: Architecture, data: Dataset) -> None:
    """Raises `BadData` unless `data` has the arrays that `architecture` takes, and the labels of its task."""
    check_images(architecture, data)
    task_of(architecture).check(architecture, data)


def check_images(architecture: Architecture, data: Dataset) -> None:
    """Raises `BadData` unless the images of `data` are what `architecture` takes."""
    if fits(data.specs(), architecture.input.specs()):
        return
    given, taken = (", ".join(spec.text for spec in specs) for specs in (data.specs(), architecture.input.specs()))
    if data.specs()[0].name != architecture.input.specs()[0].name or data.train.vocabulary is not None:
        called = {PIXELS: "images", IDS: "texts"}
        own, wanted = (called[specs[0].name] for specs in (data.specs(), architecture.input.specs()))
        raise BadData(
            f"data {data.spec!r} have {own} ({given}), and the model takes {wanted} ({taken}); name other data with --data"
        )
    size, channels = architecture.image, architecture.image.channels
    advice = "name other data with --data"
    if channels != data.channels:
        if (channels, data.channels) == (1, 3) and not data.features:
            advice = f"it takes grey images: say --data {shlex.quote(Spec.parse(data.spec).in_grey)}, or {advice}"
    elif size.height == size.width and not data.features:
        advice = f"resize them with --image-size {size.height}, or {advice}"
    raise BadData(f"data {data.spec!r} have images of {given}; the model takes {taken}; {advice}")
