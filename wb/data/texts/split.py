"""A split of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from wb.core.errors import BadData
from wb.core.specs import IDS, MASK
from wb.data.split import Feed, Index, Indices, Labels, Shuffled
from wb.data.texts.vocabulary import Ragged, Vocabulary
from wb.data.texts.written import Written

Lines = npt.NDArray[np.object_]  # (n,) of str
BEFORE = 16  # batches of an epoch that are sorted by length together
PADDING = -1  # the id of padding within the workbench; graphs have a mask
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Texts(Written):
    """Texts (n,) and their labels (n,), int64, written with a vocabulary; `written` has their ids, none cut, if they are known.

    They are written once, when ids are asked for, and taken along into other splits of the same texts.

    Raises:
        BadData: there are not as many labels as texts.
    """

    lines: Lines
    labels: Labels
    written_with: Vocabulary
    written: Ragged | None = None

    def __post_init__(self) -> None:
        if len(self.lines) != len(self.labels):
            raise BadData(f"{len(self.lines)} texts have {len(self.labels)} labels; give one label for each text")

    @cached_property
    def whole(self) -> Ragged:
        """The ids of all texts, none cut."""
        return self.written_with.ids(self.lines.tolist()) if self.written is None else self.written

    @property
    def known(self) -> Ragged | None:
        """Those, if they are known already."""
        return self.whole if self.written is not None or "whole" in self.__dict__ else None

    @cached_property
    def ragged(self) -> Ragged:
        """The ids of all texts that a network reads. Raises `BadData` where one is too long and may not be truncated."""
        return self.written_with.within(self.whole)

    @property
    def noun(self) -> str:
        return "texts"

    @property
    def described(self) -> str:
        return f"texts of at most {self.written_with.length} tokens, of {self.written_with.size} that are known"

    def inputs(self, index: Index = _ALL) -> npt.NDArray[np.int64]:
        """Ids (b, tokens of the longest), -1 behind the end of a text."""
        return self.ragged.take(np.arange(len(self))[index]).padded(PADDING)

    def feed(self, index: Index = _ALL) -> Feed:
        ids = self.inputs(index)
        return {IDS: np.maximum(ids, 0), MASK: (ids >= 0).astype(np.int64)}

    def take(self, index: Index) -> Texts:
        chosen = np.arange(len(self))[index]
        written = None if self.known is None else self.known.take(chosen)
        return replace(self, lines=self.lines[chosen], labels=self.labels[chosen], written=written)

    def labelled(self, labels: Labels) -> Texts:
        return replace(self, labels=labels, written=self.known)

    def joined(self, other: Texts) -> Texts:
        lines, labels = np.concatenate([self.lines, other.lines]), np.concatenate([self.labels, other.labels])
        alike = isinstance(other, Texts) and other.written_with.text == self.written_with.text
        ids = (self.known, other.known) if alike else (None, None)
        written = None if ids[0] is None or ids[1] is None else ids[0].joined(ids[1])
        return Texts(lines, labels, self.written_with, written)

    def arrays(self) -> Sequence[npt.NDArray[Any]]:
        flat = "\0".join(self.lines.tolist()).encode("utf-8", "surrogatepass")
        tokenizer = np.frombuffer(self.written_with.text.encode(), np.uint8)
        return np.frombuffer(flat, np.uint8), self.labels, tokenizer, np.array(self.written_with.length)

    def line(self, index: int) -> str:
        return str(self.lines[index])

    def contents(self) -> Iterator[bytes]:
        return (line.encode("utf-8", "surrogatepass") for line in self.lines)

    def alike(self) -> bool:
        return bool((self.lines == self.lines[0]).all())

    def drawn(self, order: Indices, size: int, shuffled: Shuffled) -> Iterator[Indices]:
        """Batches of texts of about one length: chunks of the order are sorted, and then the batches are shuffled.

        Source: the buckets of Vaswani et al., "Attention Is All You Need", 2017, section 5.1.
        """
        counts, chunk = self.ragged.counts, BEFORE * size
        found: list[Indices] = []
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            part = part[np.argsort(counts[part], kind="stable")]
            found += [part[i : i + size] for i in range(0, len(part), size)]
        return (found[i] for i in shuffled(len(found)))

    def typical(self, size: int) -> Indices:
        """Of the batches of an epoch, that whose longest text is nearest to the mean of theirs."""
        random = np.random.default_rng(0)
        found = [one for one in self.drawn(random.permutation(len(self)), size, np.arange) if len(one) == size]
        longest = np.array([self.ragged.counts[one].max() for one in found or [np.arange(len(self))]])
        return (found or [np.arange(len(self))])[int(np.abs(longest - longest.mean()).argmin())]

    def together(self, size: int) -> Iterator[Index]:
        """Sorted by length, so that there is little padding."""
        order = np.argsort(self.ragged.counts, kind="stable")
        return (order[start : start + size] for start in range(0, len(order), size))

    @cached_property
    def _words(self) -> list[list[str]]:
        merges = self.written_with.merges
        return [] if merges is None else merges.words(self.lines.tolist())

    def varied(self, share: float, seed: int) -> Texts:
        merges = self.written_with.merges
        if not share or merges is None:
            return self
        rows = merges.varied(self._words, share, seed)
        length = self.written_with.length
        if not self.written_with.truncate:  # what only this writing makes too long stays as it is
            rows = [row if len(row) <= length else self.ragged.ids_of(i) for i, row in enumerate(rows)]
        return replace(self, written=Ragged.of([row[:length] for row in rows]))

    def lengths(self) -> npt.NDArray[np.int64]:
        return self.whole.counts

    def written_by(self, vocabulary: Vocabulary) -> Texts:
        """The same texts, written with another vocabulary."""
        written = self.known if vocabulary.text == self.written_with.text else None
        return replace(self, written_with=vocabulary.like(self.written_with), written=written)
