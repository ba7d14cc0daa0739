"""A data set in memory: three splits of images with labels, the class names, and a fingerprint of the content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData
from wb.core.specs import PIXELS, Spec, image_spec
from wb.data.preparation import Preparation

Images = npt.NDArray[np.uint8] | npt.NDArray[np.float32]  # (n, channels, height, width)
Labels = npt.NDArray[np.int64]  # (n,)
Pixels = npt.NDArray[np.float32]  # in [0, 1] before any preparation
Index = slice | npt.NDArray[np.integer]
Feed = Mapping[str, npt.NDArray[Any]]  # input of a network or graph -> (n, ...)
Progress = Callable[[int, int], None]  # done, total

MAX_BYTES = 4 * 2**30  # of images in memory, as uint8
_ALL = slice(None)
_CHUNK = 1024  # images; statistics never hold the whole set as floats
_SHOWN = (0.05, 0.95)  # shares of the values; the first of the features of sound is far from all others
_FLAT = 1e-6  # a channel with a smaller standard deviation is constant


@dataclass(frozen=True, eq=False)
class Split:
    """Images (n, channels, height, width), uint8 or float32 in [0, 1], and labels (n,), int64.

    Images that `wb.data` loads are uint8, which takes a quarter of the memory. Float images are for callers that make their
    own. With `features` the values are float32 of any range, as those of sound are. `preparation` is applied to pixels for a
    foreign graph; the workbench's own networks take pixels in [0, 1].

    Raises:
        BadData: the arrays have another type or shape, or their lengths differ.
    """

    images: Images
    labels: Labels
    preparation: Preparation | None = None
    features: bool = False

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
            raise BadData(
                f"images are {self.images.dtype} of shape {self.images.shape}; "
                "expected uint8 or float32 of shape (n, channels, height, width)"
            )
        if self.labels.ndim != 1 or self.labels.dtype != np.int64:
            raise BadData(f"labels are {self.labels.dtype} of shape {self.labels.shape}; expected int64 of shape (n,)")
        if len(self.images) != len(self.labels):
            raise BadData(f"{len(self.images)} images have {len(self.labels)} labels; give one label for each image")

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, index: Index = _ALL) -> Pixels:
        """The images at `index` as a copy, float32 (b, channels, height, width): in [0, 1], then with `preparation` applied.

        uint8 v becomes v / 255, and features stay as they are. All images that a network sees come from here.
        """
        chosen = self.images[index]
        whole = chosen.dtype == np.uint8
        pixels = chosen.astype(np.float32) / np.float32(255) if whole else chosen.astype(np.float32, copy=True)
        return pixels if self.preparation is None else self.preparation(pixels)

    def shown(self, index: int) -> npt.NDArray[np.uint8]:
        """An example as a picture (channels, height, width) in levels of 0 to 255; of features the outermost are cut."""
        image = self.images[index]
        if image.dtype == np.uint8:
            return np.asarray(image, np.uint8)
        low, high = np.quantile(image, _SHOWN).tolist() if self.features else (0.0, 1.0)
        levels: npt.NDArray[np.uint8] = (
            np.rint((image - low) * (255 / ((high - low) or 1))).clip(0, 255).astype(np.uint8)
        )
        return levels

    def feed(self, index: Index = _ALL) -> Feed:
        """The inputs of a network or graph for the examples at `index`, by name."""
        return {PIXELS: self.pixels(index)}

    def take(self, index: Index) -> Split:
        """The images and labels at `index`, as a split."""
        return replace(self, images=self.images[index], labels=self.labels[index])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with three splits: `train` to fit, `validation` to choose, `test` to report.

    `spec`, `image_size` and `limit` are the arguments of `load`. `fingerprint` is `fingerprint_of` the content: two loads with
    the same fingerprint hold the same numbers in the same order. `notes` are sentences on images that were left out or changed
    when the data were read; `sources` says of each split where its images come from.

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

    def __post_init__(self) -> None:
        shape = self.train.images.shape[1:]
        for name, split in (("training", self.train), ("validation", self.validation), ("test", self.test)):
            if not len(split):
                raise BadData(f"the {name} split of {self.spec} is empty; add images to it")
            if split.images.shape[1:] != shape:
                raise BadData(
                    f"the {name} images of {self.spec} are {_describe(split.images.shape[1:])} and the training images "
                    f"{_describe(shape)}; make them the same"
                )
            _check_labels(split.labels, len(self.classes), f"the {name} split of {self.spec}")
        if len(np.unique(self.train.labels)) < 2:
            raise BadData(f"the training images of {self.spec} have one class only; at least two are needed")
        if all((chunk == self.train.images[:1]).all() for chunk in _parts(self.train)):
            raise BadData(
                f"all {len(self.train):,} training images of {self.spec} are alike, so that nothing can be learned from them; "
                "look at the files, and if they are drawn in one colour on a transparent ground, choose another --background"
            )

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
        return (image_spec(self.channels, self.height, self.width),)

    @property
    def origin(self) -> dict[str, str | int]:
        """What a history step records about its data: enough to load them again and to recognise them."""
        asked = {"image_size": self.image_size, "limit": self.limit}
        found = {name: value for name, value in asked.items() if value is not None}
        return {"data": self.spec, "fingerprint": self.fingerprint, **found}

    def prepared(self, preparation: Preparation | None) -> Dataset:
        """The same data with images prepared for a foreign graph.

        Raises:
            BadOption: `preparation` is for another number of channels.
        """
        if preparation is None:
            return self
        preparation.check(self.channels)
        train, validation, test = (
            replace(split, preparation=preparation) for split in (self.train, self.validation, self.test)
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
        for array in (split.images, split.labels):
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
    for chunk in _parts(split):
        count += int((chunk == chunk[:, :, :1, :1]).all(axis=(1, 2, 3)).sum())
    return count


def _parts(split: Split) -> Iterator[Images]:
    return (split.images[start : start + _CHUNK] for start in range(0, len(split), _CHUNK))


def _chunks(split: Split) -> Iterator[npt.NDArray[np.float64]]:
    for start in range(0, len(split), _CHUNK):
        yield split.pixels(slice(start, start + _CHUNK)).astype(np.float64)


def _check_labels(labels: Labels, classes: int, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise BadData(f"{where} has labels {low} to {high}; with {classes} classes, expected 0 to {classes - 1}")


def _describe(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels in {channels} channel{'s' if channels > 1 else ''}"
