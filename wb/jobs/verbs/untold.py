"""What a checkpoint does not say of itself, tried out on data: other activations, and other means and deviations of images.

Nothing is chosen here. Activations often score alike, so that data can rule a guess out, but seldom prove it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from wb.core.records.base import Activation
from wb.core.statistics.paired import Paired
from wb.data import Dataset, Split
from wb.data.preparation import Preparation
from wb.data.stratify import choose
from wb.foreign.given import Given
from wb.foreign.importing import Imported, read_checkpoint
from wb.models.model import Model
from wb.tasks.suited import fitted

IMAGES = 500  # of validation, at most
_AT_ONCE = 64
HALF = Preparation(mean=(0.5,), std=(0.5,))


def tried_out(source: Path, given: Given, imported: Imported, data: Dataset) -> list[str]:
    """How many images `imported` has right, and how many it had if what nobody said of it were otherwise, in sentences.

    Raises:
        BadData: the data do not fit the model.
    """
    data, notes = fitted(data, imported.model.architecture, str(source))
    split = data.validation
    if len(split) > IMAGES:
        split = split.take(choose(split.labels, IMAGES))
    right = _right(imported.model, split)
    said = f"as it is read, it has {_percent(right)} of {len(split)} validation images of {data.spec} right"
    found, better = [], []
    for options, other in _others(given, imported, data):
        model = read_checkpoint(source, other).model
        if model.architecture == imported.model.architecture:
            continue
        also = _right(model, split)
        paired = Paired.of(also, right)
        found.append(f"{_percent(also)} with {options}")
        if paired.sure and paired.points > 0:
            better.append((paired.points, options))
    if not found:
        return [*notes, said]
    advice = (
        f"read it again with {max(better)[1]}, which is surely better"
        if better
        else "none is surely better than what was taken, and images do not tell more"
    )
    return [*notes, said, f"what its files do not rule out: {', '.join(found)}; {advice}"]


def _others(given: Given, imported: Imported, data: Dataset) -> Iterator[tuple[str, Given]]:
    """Other values of what neither the checkpoint nor the user said, as options and as what is given."""
    image = imported.model.architecture.image
    if given.images is None and not any(image.mean) and set(image.std) == {1.0}:
        own = Preparation(mean=_rounded(data.mean), std=_rounded(data.std))
        for prepared in (own,) if data.features else (own, HALF):
            options = f"--mean {_listed(prepared.mean)} --std {_listed(prepared.std)}"
            yield options, given.model_copy(update={"images": prepared})
    if given.activation is None and "activation" in imported.family.options:
        for name in get_args(Activation):
            yield f"--activation {name}", given.model_copy(update={"activation": name})


@torch.no_grad()
def _right(model: Model, split: Split) -> list[bool]:
    network = model.network()
    pixels = torch.from_numpy(split.pixels())
    votes = torch.cat([network(part).argmax(dim=1) for part in pixels.split(_AT_ONCE)]).numpy()
    found: list[bool] = np.equal(votes, split.labels).tolist()
    return found


def _percent(right: Sequence[bool]) -> str:
    return f"{100 * sum(right) / len(right):.1f} %"


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
