"""A split of one long text, or of several: passages of one length, each with the token that follows every one of its tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData, Unsupported
from wb.core.specs import IDS, MASK, NO_LABEL
from wb.data.split import Feed, Index, Indices, Labels
from wb.data.texts.vocabulary import Vocabulary
from wb.data.texts.written import Written

Ids = npt.NDArray[np.int64]
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Passages(Written):
    """Passages of a text, whose tokens are `ids` (T,): passage i has `length` tokens from `starts[i]` on.

    `labels` (n, length) are the tokens that follow. Passages that are `whole` are all of the text, one behind the other; they
    begin elsewhere in each epoch of training.

    Where `between` stands between several texts, a passage is the beginning of one, behind what the tokenizer puts in front
    (`wb.data.texts.gaps` refuses or counts those that are longer). Labels are -1 behind its end, where tokens are any: none
    before sees them.
    """

    task: ClassVar[str] = "next"
    text: str
    ids: Ids
    starts: Indices
    labels: Labels
    written_with: Vocabulary
    length: int
    whole: bool = True
    between: str | None = None

    @staticmethod
    def of(text: str, vocabulary: Vocabulary, what: str, between: str | None = None) -> Passages:
        """All passages of `text`, as long as `vocabulary` says; `what` names it in messages. What is left at the end is cut.

        Raises:
            BadData: there is not one passage in it.
        """
        if between is not None:
            return _of_texts(text, vocabulary, what, between)
        ids, length = vocabulary.whole(text), vocabulary.length
        count = (len(ids) - 1) // length
        if count < 1:
            raise BadData(
                f"{what} has {len(ids):,} tokens, and a passage has {length} and the one that follows; give a longer text, or "
                "shorter passages with lm,length=…"
            )
        starts = np.arange(count) * length
        return Passages(text, ids, starts, _following(ids, starts, length), vocabulary, length)

    @property
    def noun(self) -> str:
        return "passages"

    @property
    def described(self) -> str:
        return f"passages of {self.length} tokens, of {self.written_with.size} that are known"

    def inputs(self, index: Index = _ALL) -> Ids:
        """Ids (b, length)."""
        return self.ids[_places(self.starts[index], self.length)]

    def feed(self, index: Index = _ALL) -> Feed:
        ids = self.inputs(index)
        return {IDS: ids, MASK: np.ones_like(ids)}

    def take(self, index: Index) -> Passages:
        return replace(self, starts=self.starts[index], labels=self.labels[index], whole=False)

    def labelled(self, labels: Labels) -> Passages:
        raise Unsupported("the labels of passages are the tokens that follow, and no others; name data with classes")

    def joined(self, other: Passages) -> Passages:
        text, ids = self.text + other.text, np.concatenate([self.ids, other.ids])
        starts = np.concatenate([self.starts, other.starts + len(self.ids)])
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, text=text, ids=ids, starts=starts, labels=labels, whole=False)

    def arrays(self) -> Sequence[npt.NDArray[Any]]:
        return self.inputs(), self.labels

    def line(self, index: int) -> str:
        return self.written_with.read(self.inputs(slice(index, index + 1))[0].tolist())

    def contents(self) -> Iterator[bytes]:
        return (row.tobytes() for row in self.inputs())

    def alike(self) -> bool:
        return bool((self.ids == self.ids[0]).all())

    def together(self, size: int) -> Iterator[Index]:
        """Some at a time, because there are scores for each token."""
        return (np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size))

    def varied(self, share: float, seed: int) -> Passages:
        """The same number of passages, which begin up to a passage later; taken passages stay as they are."""
        del share
        if not self.whole:
            return self
        late = int(np.random.default_rng(seed).integers(self.length))
        starts = np.minimum(self.starts + late, len(self.ids) - 1 - self.length)
        return replace(self, starts=starts, labels=_following(self.ids, starts, self.length))

    def shortened(self, by: int) -> Passages:
        """Each passage as `by` passages; tokens that are left over at its end are cut, and passages behind the end of a text."""
        length = self.length // by
        if not length:  # a passage of fewer tokens than parts stays whole
            return self
        starts = (self.starts[:, None] + np.arange(by) * length).ravel()
        labels = self.labels[:, : by * length].reshape(len(starts), length)
        there = labels[:, 0] != NO_LABEL
        return replace(self, starts=starts[there], labels=labels[there], length=length)

    def lengths(self) -> Ids:
        rows = [] if self.between is None else texts_in(self.text, self.written_with, self.between)
        return np.array([len(row) for row in rows], np.int64)

    def written_by(self, vocabulary: Vocabulary) -> Passages:
        """All passages of the text, written with another vocabulary; if some were taken, as large a share, the first ones."""
        vocabulary = vocabulary.like(self.written_with)
        if vocabulary.text == self.written_with.text and vocabulary.length == self.length:
            return replace(self, written_with=vocabulary)
        found = Passages.of(self.text, vocabulary, "the text", self.between)
        whole = len(Passages.of(self.text, self.written_with, "the text", self.between))
        if len(self) == whole:
            return found
        return found.take(slice(max(1, round(len(found) * len(self) / whole))))


def texts_in(text: str, vocabulary: Vocabulary, between: str) -> list[Ids]:
    """The ids of each text of two tokens or more in `text`, whole, behind what the tokenizer puts in front."""
    found = [one.strip() for one in text.split(between)]
    rows = [np.array([*vocabulary.front, *vocabulary.whole(one)], np.int64) for one in found if one]
    return [row for row in rows if len(row) > 1]


def _of_texts(text: str, vocabulary: Vocabulary, what: str, between: str) -> Passages:
    """The beginnings of the texts in `text`."""
    rows = texts_in(text, vocabulary, between)
    if not rows:
        raise BadData(
            f"{what} has no text of two tokens or more between {between!r}; name what stands between its texts"
        )
    length = vocabulary.length
    counts = np.array([len(row) for row in rows], np.int64)
    starts: Indices = np.concatenate([[0], counts.cumsum()[:-1]])
    ids = np.concatenate([*rows, np.zeros(length, np.int64)])  # the last passage ends within it
    labels = _following(ids, starts, length)
    labels = np.where(np.arange(length) < counts[:, None] - 1, labels, NO_LABEL)
    return Passages(text, ids, starts, labels, vocabulary, length, whole=False, between=between)


def _places(starts: Indices, length: int) -> Indices:
    return starts[:, None] + np.arange(length)


def _following(ids: Ids, starts: Indices, length: int) -> Labels:
    return ids[_places(starts, length) + 1]
