"""One split of a data set: examples with their labels, and what a network or a graph is given of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData, Unsupported
from wb.core.specs import PIXELS, Spec, image_spec
from wb.data.preparation import Preparation

if TYPE_CHECKING:
    from wb.data.texts.vocabulary import Vocabulary

Levels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]  # (n, channels, height, width)
Labels = npt.NDArray[np.int64]  # (n,)
Pixels = npt.NDArray[np.float32]  # in [0, 1] before any preparation
Indices = npt.NDArray[np.integer]
Index = slice | Indices
Feed = Mapping[str, npt.NDArray[Any]]  # input of a network or graph -> (n, ...)

CHUNK = 1024  # examples; statistics never hold the whole set as floats
HELD = 128 * 2**20  # bytes of images as floats, at most, or one batch
Shuffled = Callable[[int], Indices]
_ALL = slice(None)
_SHOWN = (0.05, 0.95)  # shares of the values; the first of the features of sound is far from all others


class Split(ABC):
    """Examples and their labels (n,), or (n, length) where each of their tokens has one, int64.

    Final subclasses hold images or texts.

    What only images have raises `Unsupported` for others, so that whatever is made for images says so.
    """

    task: ClassVar[str] = "classes"  # what labels are (`wb.tasks`)
    preparation: Preparation | None = None
    features: bool = False

    if TYPE_CHECKING:  # fields of dataclasses, which have them as attributes
        labels: Labels
        __dataclass_fields__: ClassVar[dict[str, Any]]

        @property
        def images(self) -> Levels:
            """The images, in levels or numbers (n, channels, height, width). Raises `Unsupported` for others."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    @abstractmethod
    def noun(self) -> str:
        """What the examples are called: "images"."""

    @property
    @abstractmethod
    def described(self) -> str:
        """What each example is, in words: `28x28 pixels in 1 channel`."""

    @abstractmethod
    def specs(self) -> tuple[Spec, ...]:
        """The arrays of an example."""

    @abstractmethod
    def inputs(self, index: Index = _ALL) -> npt.NDArray[Any]:
        """The examples at `index` as one array (b, ...), as the workbench's networks take a batch."""

    @abstractmethod
    def feed(self, index: Index = _ALL) -> Feed:
        """The inputs of a network or graph for the examples at `index`, by name."""

    @abstractmethod
    def take(self, index: Index) -> Split:
        """The examples and labels at `index`, as a split."""

    @abstractmethod
    def labelled(self, labels: Labels) -> Self:
        """The same examples with other labels."""

    @abstractmethod
    def joined(self, other: Self) -> Self:
        """These examples, then those of another split of the same kind."""

    @abstractmethod
    def arrays(self) -> Sequence[npt.NDArray[Any]]:
        """All that a fingerprint is of."""

    @abstractmethod
    def contents(self) -> Iterator[bytes]:
        """Each example as bytes, which are equal for equal examples."""

    @abstractmethod
    def alike(self) -> bool:
        """Whether all examples are equal."""

    def drawn(self, order: Indices, size: int, shuffled: Shuffled) -> Iterator[Indices]:
        """Batches of at most `size` for one epoch of training, from the random `order` of all examples.

        `shuffled` gives a random order of so many things, for who needs more of it.
        """
        del shuffled
        return (order[start : start + size] for start in range(0, len(order), size))

    def typical(self, size: int) -> Indices:
        """A batch of at most `size` that takes about the mean time of the batches of an epoch."""
        return np.arange(min(size, len(self)))

    @property
    def at_once(self) -> int:
        """How many examples are held as numbers at once where one pass over all of them does."""
        return CHUNK

    def together(self, size: int) -> Iterator[Index]:
        """All examples once, those that are best scored together in batches of `size`."""
        del size
        yield np.arange(len(self))

    def varied(self, share: float, seed: int) -> Split:
        """The same examples otherwise written, if there are other ways to write them: for one epoch of training."""
        del share, seed
        return self

    def shortened(self, by: int) -> Split:
        """Passages of a text, each as `by` passages. Raises `Unsupported` for examples that are not parts of a longer one."""
        raise Unsupported(f"{self.noun} cannot be cut into {by}; leave out --resolution")

    def lengths(self) -> npt.NDArray[np.int64]:
        """The tokens of each text, none of them cut; none of images, and of passages of one text."""
        return np.zeros(0, np.int64)

    def written_by(self, vocabulary: Vocabulary) -> Split:
        """Texts written with that vocabulary; others as they are."""
        del vocabulary
        return self

    @property
    def vocabulary(self) -> Vocabulary | None:
        """What texts are written with; None for others."""
        return None

    def pixels(self, index: Index = _ALL) -> Pixels:
        """The images at `index` as networks take them. Raises `Unsupported` for others."""
        raise self.refused()

    def line(self, index: int) -> str:
        """A text as it was given. Raises `Unsupported` for images."""
        raise Unsupported(f"this is made for texts, and the data are {self.noun}; name texts with --data")

    def shown(self, index: int) -> npt.NDArray[np.uint8]:
        """An example as a picture (channels, height, width). Raises `Unsupported` for what is none."""
        raise self.refused()

    def refused(self) -> Unsupported:
        """The error of whoever asks for images where there are none."""
        return Unsupported(f"this is made for images, and the data are {self.noun}; name images with --data")


@dataclass(frozen=True, eq=False)
class Images(Split):
    """Images (n, channels, height, width), uint8 or float32 in [0, 1], and labels (n,), int64.

    Images that `wb.data` loads are uint8, which takes a quarter of the memory. Float images are for callers that make their
    own. With `features` the values are float32 of any range, as those of sound are. `preparation` is applied to pixels for a
    foreign graph; the workbench's own networks take pixels in [0, 1].

    Raises:
        BadData: the arrays have another type or shape, or their lengths differ.
    """

    images: Levels
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

    @property
    def noun(self) -> str:
        return "features" if self.features else "images"

    def specs(self) -> tuple[Spec, ...]:
        return (image_spec(*self.images.shape[1:]),)

    @property
    def described(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"{height}x{width} pixels in {channels} channel{'s' if channels > 1 else ''}"

    def pixels(self, index: Index = _ALL) -> Pixels:
        """The images at `index` as a copy, float32 (b, channels, height, width): in [0, 1], then with `preparation` applied.

        uint8 v becomes v / 255, and features stay as they are. All images that a network sees come from here.
        """
        chosen = self.images[index]
        whole = chosen.dtype == np.uint8
        pixels = chosen.astype(np.float32) / np.float32(255) if whole else chosen.astype(np.float32, copy=True)
        return pixels if self.preparation is None else self.preparation(pixels)

    def line(self, index: int) -> str:
        """A text as it was given. Raises `Unsupported` for images."""
        raise Unsupported(f"this is made for texts, and the data are {self.noun}; name texts with --data")

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

    def inputs(self, index: Index = _ALL) -> npt.NDArray[Any]:
        """The same as `pixels`."""
        return self.pixels(index)

    def feed(self, index: Index = _ALL) -> Feed:
        return {PIXELS: self.pixels(index)}

    def take(self, index: Index) -> Images:
        return replace(self, images=self.images[index], labels=self.labels[index])

    def labelled(self, labels: Labels) -> Images:
        return replace(self, labels=labels)

    def joined(self, other: Images) -> Images:
        images: Levels = np.concatenate([self.images, other.images])
        return replace(self, images=images, labels=np.concatenate([self.labels, other.labels]))

    def arrays(self) -> Sequence[npt.NDArray[Any]]:
        return self.images, self.labels

    def contents(self) -> Iterator[bytes]:
        return (np.ascontiguousarray(image).tobytes() for image in self.images)

    def alike(self) -> bool:
        return all((chunk == self.images[:1]).all() for chunk in self.parts())

    def parts(self) -> Iterator[Levels]:
        """The images, some at a time."""
        return (self.images[start : start + CHUNK] for start in range(0, len(self), CHUNK))

    @property
    def at_once(self) -> int:
        return max(1, min(CHUNK, self._holding))

    def together(self, size: int) -> Iterator[Index]:
        """In order, as many whole batches at a time as are held as floats, so that the whole split never is."""
        step = max(size, self._holding // max(1, size) * size, 1)
        starts = range(0, max(1, len(self)), step)
        return (np.arange(start, min(start + step, len(self))) for start in starts)

    @property
    def _holding(self) -> int:
        """The number of images that are `HELD` bytes as floats."""
        return HELD // (4 * int(np.prod(self.images.shape[1:])))
