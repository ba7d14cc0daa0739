"""What a network is run on: pictures, texts, or a split of a data set, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadData, BadOption
from wb.core.specs import NO_LABEL
from wb.data.readers.pictures import check
from wb.data.spec import WHITE, Spec
from wb.data.split import CHUNK, Split
from wb.data.texts.split import PADDING
from wb.jobs.inputs import choose
from wb.jobs.reading import UNWRITTEN, read_data
from wb.jobs.running.config import RunConfig
from wb.jobs.verbs.classifier import Picture, prepared
from wb.jobs.verbs.predicting import expanded, name_of
from wb.jobs.verbs.reader import texts_of
from wb.models.files.history import data_of, tokenizer_of
from wb.models.staged.stored import Stored

if TYPE_CHECKING:
    from wb.data.texts.vocabulary import Ragged, Vocabulary


@dataclass(frozen=True)
class Pictures:
    """Pictures, which are decoded when their batch is computed, as the network takes them."""

    pictures: Sequence[Picture]
    shape: tuple[int, int, int]
    background: str = WHITE
    lengths = None
    following = None
    noun = "picture"
    cut = 0

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def names(self) -> tuple[str, ...]:
        """Paths, or numbers."""
        return tuple(map(name_of, self.pictures, range(1, len(self) + 1)))

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        """(b, channels, height, width) in [0, 1]."""
        found = [prepared(self.pictures[i], self.shape, self.background) for i in index]
        wrong = next((one.shape for one in found if one.shape != self.shape), None)
        if wrong is not None:
            raise BadData(f"an array {list(wrong)} does not fit the network, which takes {list(self.shape)}")
        return np.stack(found)


@dataclass(frozen=True)
class Lines:
    """Texts, written with the network's own tokenizer; a network that `foresees` is judged by their tokens but the first."""

    texts: Sequence[str]
    vocabulary: Vocabulary
    foresees: bool = False
    noun = "text"

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def names(self) -> tuple[str, ...]:
        """The texts themselves."""
        return tuple(self.texts)

    @property
    def cut(self) -> int:
        """How many are longer than the network reads, of which it reads the beginning."""
        return self.vocabulary.cut(self.texts)

    @cached_property
    def _ragged(self) -> Ragged:
        return self.vocabulary.encoded(self.texts)

    @property
    def lengths(self) -> Sequence[int]:
        """The tokens of each."""
        return [int(count) for count in self._ragged.counts]

    @cached_property
    def following(self) -> NDArray[np.integer] | None:
        """The tokens of each text but the first, (n, tokens); `NO_LABEL` behind them."""
        if not self.foresees:
            return None
        ids = self._ragged.padded(NO_LABEL)
        return np.concatenate([ids[:, 1:], np.full_like(ids[:, :1], NO_LABEL)], axis=1)

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        """Ids (b, tokens)."""
        return self._ragged.take(index).padded(PADDING)


@dataclass(frozen=True)
class Examples:
    """The examples of a split."""

    split: Split
    cut = 0

    def __len__(self) -> int:
        return len(self.split)

    @property
    def noun(self) -> str:
        """What one example is called."""
        return "picture" if self.split.vocabulary is None else "text"

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers."""
        return tuple(f"{self.noun} {number}" for number in range(1, len(self) + 1))

    @cached_property
    def lengths(self) -> Sequence[int] | None:
        """The tokens of each text."""
        if self.split.vocabulary is None:
            return None
        parts = (self.split.inputs(slice(begin, begin + CHUNK)) for begin in range(0, len(self), CHUNK))
        return [int(count) for part in parts for count in (part >= 0).sum(axis=1)]

    @property
    def following(self) -> NDArray[np.integer] | None:
        """The tokens that follow in each passage, (n, tokens)."""
        labels = np.asarray(self.split.labels)
        return labels if labels.ndim > 1 else None

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        """As the split batches them."""
        return self.split.inputs(index)


def given_inputs(config: RunConfig, stored: Stored, given: Sequence[Picture]) -> Pictures | Lines | Examples:
    """What the model in a file is run on: the data that `config` names, else the pictures or texts that are given.

    Raises:
        BadArtefact: the model takes texts and has no tokenizer.
        BadData: pictures or texts that cannot be read, or none; or data that do not fit.
        BadOption: options that would do nothing.
    """
    a = stored.architecture
    tokenizer = tokenizer_of(stored.history)
    if a.input.usual_tokens is not None and tokenizer is None:
        raise BadArtefact(f"{stored.path}: {UNWRITTEN}")
    of_classes = [name for name in ("top", "by_index") if name in config.model_fields_set]
    if a.head.foresees and of_classes:
        option = f"--{of_classes[0].replace('_', '-')}"
        raise BadOption(f"{stored.path} foresees tokens and names no classes, which {option} is of; leave it out")
    if config.data is not None:
        if given:
            raise BadOption(
                f"--data {config.data} names what the network is run on, and so does {given[0]}; leave one out"
            )
        choice = choose([stored.path], config.data, say=lambda _: None, truncate=config.truncate)
        data, _ = read_data(stored.path, choice, by_index=config.by_index)
        return Examples(data.test)
    if config.by_index:
        raise BadOption("--by-index is of the classes of --data; leave it out")
    if tokenizer is not None:
        return _lines(config, stored, given, tokenizer)
    if config.truncate:
        raise BadOption(f"{stored.path} looks at pictures, and --truncate is of texts; leave it out")
    pictures = list(expanded(given))
    if not pictures:
        raise BadData("no pictures; give one or more, or a folder of them")
    check([Path(picture) for picture in pictures if isinstance(picture, str | Path)])
    return Pictures(pictures, _shape(a), _ground(config, stored))


def _vocabulary(tokenizer: str, architecture: Architecture) -> Vocabulary:
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    length = int(architecture.layout.shape[0])
    return Vocabulary(tokenizer, length, architecture.input.usual_tokens or length)


def _lines(config: RunConfig, stored: Stored, given: Sequence[Picture], tokenizer: str) -> Lines:
    """Texts that are given; if they are foreseen, they have to be such that a network can."""
    if config.background is not None:
        raise BadOption(f"{stored.path} reads texts, and --background is of pictures; leave it out")
    vocabulary = replace(_vocabulary(tokenizer, stored.architecture), truncate=config.truncate)
    found = Lines(texts_of(given), vocabulary, stored.architecture.head.foresees)
    if found.following is None:
        return found
    for number, text in enumerate(found.texts, 1):
        strange = vocabulary.strange(text)
        if strange is not None:
            raise BadData(f"text {number} has {strange} that the model has never seen; leave that out")
    if (found.following == NO_LABEL).all():
        raise BadData("no text has a token behind its first one, so that nothing is foreseen; give longer texts")
    return found


def _shape(architecture: Architecture) -> tuple[int, int, int]:
    channels, height, width = architecture.input.specs()[0].example
    return int(channels), int(height), int(width)


def _ground(config: RunConfig, stored: Stored) -> str:
    """The background of transparent pictures."""
    if config.background is not None:
        return config.background
    known = data_of(stored.history)
    return WHITE if known is None else Spec.parse(known.spec).background
