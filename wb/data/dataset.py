"""A data set in memory: three splits of examples with labels, the class names, and a fingerprint of the content."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData, Unsupported
from wb.core.records import TextInput
from wb.core.specs import Spec
from wb.data.preparation import Preparation
from wb.data.split import Feed as Feed
from wb.data.split import Images as Images
from wb.data.split import Index as Index
from wb.data.split import Labels as Labels
from wb.data.split import Levels as Levels
from wb.data.split import Pixels as Pixels
from wb.data.split import Split as Split

if TYPE_CHECKING:
    from wb.data.texts.vocabulary import Vocabulary

Progress = Callable[[int, int], None]  # done, total

_log = logging.getLogger(__name__)
TRAINED_ON, WHOLE = "trained_on", "training and validation"  # an argument of steps that had `whole` data, and its value
MAX_BYTES = 4 * 2**30  # of images in memory, as uint8
_FLAT = 1e-6  # a channel with a smaller standard deviation is constant


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with three splits: `train` to fit, `validation` to choose, `test` to report.

    Passages of a text, whose labels are the tokens that follow, have no `classes`.
    `spec`, `image_size` and `limit` are the arguments of `load`. `fingerprint` is `fingerprint_of` the content: two loads with
    the same fingerprint hold the same numbers in the same order. `notes` are sentences on images that were left out or changed
    when the data were read; `sources` says of each split where its images come from. `repeated` grey images have their one
    channel three times. `whole` is whether the examples of validation are among those of training too (`with_validation`).

    Raises:
        BadData: a split is empty, the splits differ in shape, a label has no name, or training has only one class or repeats
            a single image.
    """

    name: str
    spec: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    fingerprint: str
    image_size: int | None = None
    limit: int | None = None
    notes: tuple[str, ...] = ()
    sources: tuple[str, str, str] = ("", "", "")
    repeated: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        for name, split in (("training", self.train), ("validation", self.validation), ("test", self.test)):
            if not len(split):
                raise BadData(f"the {name} split of {self.spec} is empty; add {split.noun} to it")
            if split.specs() != self.train.specs():
                raise BadData(
                    f"the {name} {split.noun} of {self.spec} are {split.described} and the training {split.noun} "
                    f"{self.train.described}; make them the same"
                )
            if self.task == "classes":
                _check_labels(split.labels, len(self.classes), f"the {name} split of {self.spec}")
        if self.task == "classes" and len(np.unique(self.train.labels)) < 2:
            raise BadData(f"the training {self.train.noun} of {self.spec} have one class only; at least two are needed")
        if self.train.alike():
            look = "look at the files"
            if self.train.noun == "images":
                look += ", and if they are drawn in one colour on a transparent ground, choose another --background"
            raise BadData(
                f"all {len(self.train):,} training {self.train.noun} of {self.spec} are alike, so that nothing can be learned "
                f"from them; {look}"
            )

    @property
    def task(self) -> str:
        """What labels are: the name of a task (`wb.tasks`)."""
        return self.train.task

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.train.images.shape[1])

    @property
    def height(self) -> int:
        """Height of every image, in pixels."""
        return int(self.train.images.shape[2])

    @property
    def width(self) -> int:
        """Width of every image, in pixels."""
        return int(self.train.images.shape[3])

    @property
    def features(self) -> bool:
        """Whether examples are numbers of any range, and no images."""
        return self.train.features

    def specs(self) -> tuple[Spec, ...]:
        """The arrays of an example."""
        return self.train.specs()

    @property
    def text(self) -> TextInput:
        """What networks for these texts take. Raises `Unsupported` for images."""
        if (known := self.train.vocabulary) is None:
            raise Unsupported(f"this is made for texts, and the data are {self.train.noun}; name texts with --data")
        return TextInput(vocabulary=known.size, length=known.length, tokens=known.tokens)

    def written_by(self, vocabulary: Vocabulary) -> Dataset:
        """The same texts as a network has them that was trained with that vocabulary; images stay as they are.

        What it does not see of them is logged, and among the notes.

        Raises:
            BadData: texts are longer than the network reads, and the data do not say that they are truncated.
        """
        from wb.data.texts.gaps import gaps  # imports a library that only texts need

        train, validation, test = (split.written_by(vocabulary) for split in (self.train, self.validation, self.test))
        found = gaps(train, validation, test)
        for note in found:
            _log.warning(note)
        return replace(self, train=train, validation=validation, test=test, notes=(*self.notes, *found))

    @property
    def origin(self) -> dict[str, str | int]:
        """What a history step records about its data: enough to load them again and to recognise them."""
        asked = {"image_size": self.image_size, "limit": self.limit}
        found: dict[str, str | int] = {name: value for name, value in asked.items() if value is not None}
        found |= {TRAINED_ON: WHOLE} if self.whole else {}
        return {"data": self.spec, "fingerprint": self.fingerprint, **found}

    def with_validation(self) -> Dataset:
        """The same data with the examples of validation among those of training too, which then cannot judge any more."""
        return self if self.whole else replace(self, train=self.train.joined(self.validation), whole=True)

    def in_colour(self) -> Dataset:
        """Grey images with their channel three times, which show the same to a network that takes colour; others as they are.

        Raises:
            BadData: they would not fit into memory.
        """
        if self.channels != 1 or self.features:
            return self
        splits = (self.train, self.validation, self.test)
        check_memory(sum(map(len, splits)), 3, self.height, self.width, self.spec)
        train, validation, test = (replace(split, images=split.images.repeat(3, axis=1)) for split in splits)
        return replace(self, train=train, validation=validation, test=test, repeated=True)

    def prepared(self, preparation: Preparation | None) -> Dataset:
        """The same data with images prepared for a foreign graph.

        Raises:
            BadOption: `preparation` is for another number of channels.
        """
        if preparation is None:
            return self
        preparation.check(self.channels)
        train, validation, test = (
            replace(_pictures(split), preparation=preparation) for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel of the training split, in units of [0, 1]."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel of the training split, in units of [0, 1]; 1.0 for a constant channel."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        mean, deviation = moments(self.train)
        return mean, tuple(1.0 if value < _FLAT else value for value in deviation)


def moments(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in units of [0, 1]."""
    pixels = split.images[:, 0].size
    mean = sum(chunk.sum(axis=(0, 2, 3)) for chunk in _chunks(split)) / pixels
    centre = np.asarray(mean).reshape(1, -1, 1, 1)
    # A second pass, because E[x^2] - E[x]^2 would lose the spread of a nearly constant channel.
    variance = sum(((chunk - centre) ** 2).sum(axis=(0, 2, 3)) for chunk in _chunks(split)) / pixels
    return tuple(centre.ravel().tolist()), tuple(np.sqrt(np.asarray(variance)).tolist())


def fingerprint_of(classes: tuple[str, ...], *splits: Split) -> str:
    """16 hexadecimal digits of the SHA-256 of class names, shapes, images and labels, in their order."""
    digest = hashlib.sha256(repr(classes).encode())
    for split in splits:
        for array in split.arrays():
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def check_memory(count: int, channels: int, height: int, width: int, what: str) -> None:
    """Raises before any allocation if a data set would not fit into memory.

    Raises:
        BadData: the images would take more than `MAX_BYTES`.
    """
    need = count * channels * height * width
    if need > MAX_BYTES:
        raise BadData(
            f"{what}: {count:,} images of {_describe((channels, height, width))} would take {need / 2**30:,.1f} GB of "
            f"memory, and at most {MAX_BYTES / 2**30:,.1f} GB are held; choose a smaller image size or fewer images"
        )


def blank(split: Split) -> int:
    """The number of images that have one colour throughout."""
    count = 0
    for chunk in _pictures(split).parts():
        count += int((chunk == chunk[:, :, :1, :1]).all(axis=(1, 2, 3)).sum())
    return count


def _chunks(split: Split) -> Iterator[npt.NDArray[np.float64]]:
    step = split.at_once
    for start in range(0, len(split), step):
        yield split.pixels(slice(start, start + step)).astype(np.float64)


def _pictures(split: Split) -> Images:
    if not isinstance(split, Images):
        raise split.refused()
    return split


def _check_labels(labels: Labels, classes: int, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise BadData(f"{where} has labels {low} to {high}; with {classes} classes, expected 0 to {classes - 1}")


def _describe(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels in {channels} channel{'s' if channels > 1 else ''}"
