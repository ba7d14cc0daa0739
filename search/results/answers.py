"""`answers.json`: what the networks of a front answered on the test split, from the same scoring as their test accuracy."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, TypeAdapter, field_validator, model_validator

from wb.core.records import Frozen
from wb.search.results.stored import stored

if TYPE_CHECKING:
    from wb.data import Split

MOST_MISTAKES = 12  # pictures of one network
MOST_BYTES = 512 << 10  # of all pictures of a run, as base64
MOST_LETTERS = 500  # of a text; of longer ones the beginning
SIDE = 96  # pixels of the longer side of a picture; larger ones are made smaller
Index = Annotated[int, Field(ge=0)]


class Mistake(Frozen):
    """An image of the test split that a network gives to the class `answer`, with what probability; it is of class `true`."""

    image: Index
    true: Index
    answer: Index
    probability: Annotated[float, Field(ge=0, le=1)]


class NetworkAnswers(Frozen):
    """The answers of one network.

    `confusion` has a triple (true class, answer, number of images) for each pair that occurs. `mistakes` are those that the
    network was surest of, the surest first.
    """

    confusion: tuple[tuple[Index, Index, Annotated[int, Field(ge=1)]], ...]
    mistakes: tuple[Mistake, ...] = ()

    def matrix(self, classes: int) -> NDArray[np.int64]:
        """[true class, answer]: the number of images."""
        counts = np.zeros((classes, classes), np.int64)
        for true, answer, count in self.confusion:
            counts[true, answer] += count
        return counts


class Answers(Frozen):
    """The answers of the networks of a front by their ids; `pictures` are PNG files in base64 by the index of the image.

    `texts` are in their place where examples are texts.
    """

    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    networks: Mapping[int, NetworkAnswers]
    pictures: Annotated[Mapping[int, str], Field(max_length=10_000)] = Field(default_factory=dict)

    texts: Annotated[
        Mapping[int, Annotated[str, Field(max_length=MOST_LETTERS)]],
        Field(max_length=10_000, exclude_if=lambda texts: not texts),
    ] = Field(default_factory=dict)

    @field_validator("pictures")
    @classmethod
    def _are_small(cls, pictures: Mapping[int, str]) -> Mapping[int, str]:
        if sum(map(len, pictures.values())) > 2 * MOST_BYTES:
            raise ValueError(f"more than {2 * MOST_BYTES:,} bytes of pictures")
        for text in pictures.values():
            if not base64.b64decode(text, validate=True).startswith(b"\x89PNG\r\n\x1a\n"):
                raise ValueError("a picture that is no PNG file")
        return pictures

    @model_validator(mode="after")
    def _fit(self) -> Answers:
        """Every class has a name: what is shown is looked up by them."""
        for network in self.networks.values():
            named = [i for true, answer, _ in network.confusion for i in (true, answer)]
            named += [i for mistake in network.mistakes for i in (mistake.true, mistake.answer)]
            if max(named, default=0) >= len(self.classes):
                raise ValueError(f"class {max(named)} of {len(self.classes)}")
        return self


_ANSWERS = TypeAdapter(Answers)


def answered(votes: NDArray[Any], labels: NDArray[np.int64]) -> NetworkAnswers:
    """The answers of a network, from its class probabilities (n, classes) on images of the classes `labels` (n,).

    A tie counts for the first class, as in the accuracy.
    """
    given, sure = votes.argmax(axis=1), votes.max(axis=1)
    pairs, counts = np.unique(np.stack([labels, given], axis=1), axis=0, return_counts=True)
    wrong = np.flatnonzero(given != labels)
    surest = wrong[np.argsort(-sure[wrong], kind="stable")][:MOST_MISTAKES]
    return NetworkAnswers(
        confusion=tuple((int(t), int(a), int(n)) for (t, a), n in zip(pairs, counts, strict=True)),
        mistakes=tuple(
            Mistake(image=int(i), true=int(labels[i]), answer=int(given[i]), probability=min(1.0, float(sure[i])))
            for i in surest
        ),
    )


def collected(networks: Mapping[int, NetworkAnswers], split: Split, classes: tuple[str, ...]) -> Answers:
    """The answers of all networks, with pictures of their mistakes: the surest of each network first, until `MOST_BYTES`."""
    if split.vocabulary is not None:
        wrong = {mistake.image for network in networks.values() for mistake in network.mistakes}
        texts = {image: split.line(image)[:MOST_LETTERS] for image in sorted(wrong)}
        return Answers(classes=classes, networks=networks, texts=texts)
    pictures: dict[int, str] = {}
    left = MOST_BYTES
    for rank in range(MOST_MISTAKES):
        for network in networks.values():
            image = network.mistakes[rank].image if rank < len(network.mistakes) else None
            if image is None or image in pictures:
                continue
            text = png(split.shown(image))
            if len(text) <= left:
                pictures[image] = text
                left -= len(text)
    return Answers(classes=classes, networks=networks, pictures=pictures)


def png(levels: NDArray[np.uint8]) -> str:
    """Levels of 0 to 255 (channels, height, width) as a PNG file in base64; a large one is made smaller."""
    picture = Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)) if len(levels) == 3 else levels[0])
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def read_answers(path: Path) -> Answers | None:
    """The content of `answers.json`; None if there is none, as in runs of older versions.

    Raises:
        BadArtefact: it is damaged.
    """
    return stored(path, _ANSWERS, "the answers of a run's networks")
