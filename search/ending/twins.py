"""The twins of finalists: the same networks, which also look at the mirror image of what they are given."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from wb.models.model import Model
from wb.models.passes.base import apply
from wb.models.passes.mirror import Mirror

FEWEST_DIGITS = 3  # of the numbers of finalists, so that the twin of network 37 is network 1037


def ids(numbers: Collection[int], most: int) -> dict[int, int]:
    """The twin's id for each number: a one in front of it, and zeros between that make it larger than any up to `most`."""
    digits = max([FEWEST_DIGITS, *(len(str(number)) for number in (*numbers, most))])
    return {number: 10**digits + number for number in numbers}


def twins(models: Mapping[int, Model], flipped: Collection[int], most: int) -> dict[int, tuple[int, Model]]:
    """The twins of the models that are `flipped`, as they were trained on mirror images: id -> number and model.

    No twin has the number of a candidate, of which `most` is the last. A network that sees both anyway has none.
    """
    seen = [number for number in models if number in flipped and not models[number].architecture.image.mirrored]
    return {twin: (number, apply(Mirror(), models[number])) for number, twin in ids(seen, most).items()}
