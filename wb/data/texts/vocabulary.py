"""The vocabulary that texts are written with: a tokenizer of the library `tokenizers`, trained on texts or given.

No text is truncated unless that was asked for (`Vocabulary.truncate`): one that is longer than a network reads is refused.

Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (BPE), 2016,
https://arxiv.org/abs/1508.07909; on bytes, as Radford et al., "Language Models are Unsupervised Multitask Learners", 2019,
have it, so that no text is unknown.
Limits: truncation and padding that a file asks for are left to whoever feeds a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from wb.core.errors import BadArtefact, BadData, BadOption, printable, reason
from wb.core.system.files import read_text
from wb.data.texts.lengths import LONGEST, TooLong, aligned
from wb.data.texts.merges import Merges

BPE, WORDS = "bpe", "words"
CHARACTERS, BYTES = "characters", "bytes"  # of prose, where words need no labels
SIZE = 3_000  # of a vocabulary that is trained
RARE = 2  # a word, or a pair, that is rarer is no entry
PADDING, UNKNOWN = "[PAD]", "[UNK]"
FILE = "tokenizer.json"
MOST_TOKENS = 512  # of a text, where nothing else is said
USUAL = 0.95  # the share of texts that are no longer than the usual length
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Ragged:
    """Ids of texts one after the other, int64; those of text i are from `offsets[i]` to `offsets[i + 1]`."""

    ids: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> Ragged:
        """Rows of ids."""
        counts = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter((one for row in rows for one in row), np.int64, int(counts.sum()))
        return Ragged(flat, np.concatenate([[0], counts.cumsum()]).astype(np.int64))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of tokens of each text, (n,)."""
        return np.diff(self.offsets)

    def ids_of(self, text: int) -> list[int]:
        """Those of one text."""
        return [int(one) for one in self.ids[self.offsets[text] : self.offsets[text + 1]]]

    def take(self, index: npt.NDArray[np.integer]) -> Ragged:
        """The texts at `index`."""
        counts = self.counts[index]
        offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        within = np.arange(int(offsets[-1])) - np.repeat(offsets[:-1], counts)
        return Ragged(self.ids[np.repeat(self.offsets[:-1][index], counts) + within], offsets)

    def cut(self, length: int) -> Ragged:
        """The beginnings of texts that are longer than `length`, others as they are; itself where none is longer."""
        counts = self.counts
        if int(counts.max(initial=0)) <= length:
            return self
        within = np.arange(len(self.ids)) - np.repeat(self.offsets[:-1], counts)
        return Ragged(
            self.ids[within < length], np.concatenate([[0], np.minimum(counts, length).cumsum()]).astype(np.int64)
        )

    def joined(self, other: Ragged) -> Ragged:
        """These texts, and then the others."""
        return Ragged(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
        )

    def padded(self, filled: int) -> npt.NDArray[np.int64]:
        """(n, tokens of the longest, at least 1), `filled` behind the end of each text."""
        counts = self.counts
        table = np.full((len(counts), max(1, int(counts.max(initial=0)))), filled, np.int64)
        table[np.arange(table.shape[1]) < counts[:, None]] = self.ids
        return table


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A tokenizer as JSON; a network reads at most `length` tokens of a text, and `tokens` are what it is timed with.

    Of longer texts it reads the beginning where it may `truncate` them; else they are refused.
    """

    text: str
    length: int
    tokens: int
    truncate: bool = False

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which neither cuts nor pads.

        Raises:
            BadArtefact: the JSON is none of a tokenizer.
        """
        try:
            found = Tokenizer.from_str(self.text)
            found.no_truncation()
            found.no_padding()
            if getattr(found.model, "dropout", None):
                found.model.dropout = None
        except Exception as error:  # the library raises bare exceptions
            raise BadArtefact(
                f"a tokenizer cannot be read ({printable(reason(error), 300)}); expected the {FILE} that the library "
                "tokenizers writes"
            ) from error
        return found

    @cached_property
    def size(self) -> int:
        """One more than the largest id, added tokens included."""
        return 1 + max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)

    @cached_property
    def merges(self) -> Merges | None:
        """How words may be cut otherwise (BPE-dropout); None where the tokenizer has no plain merges."""
        return Merges.of(self.tokenizer)

    @cached_property
    def unknown(self) -> int | None:
        """The id of the token that stands for what no other does; None where there is no such token."""
        token = getattr(self.tokenizer.model, "unk_token", None)
        return None if token is None else self.tokenizer.token_to_id(str(token))

    @cached_property
    def front(self) -> tuple[int, ...]:
        """The ids that it puts in front of every text: that of a beginning; of most none. Raises as `encoded`."""
        bare, whole = (self._whole(["a"], special=special)[0] for special in (False, True))
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), 0)
        return tuple(whole[:at]) if bare else ()

    def encoded(self, texts: Sequence[str]) -> Ragged:
        """The ids of texts, or of the beginnings of those that are longer than `length`, if these may be truncated.

        Raises:
            BadArtefact: the tokenizer cannot write one.
            BadData: one is too long.
        """
        return self.within(self.ids(texts))

    def ids(self, texts: Sequence[str]) -> Ragged:
        """The ids of texts, none cut. Raises `BadArtefact` where the tokenizer cannot write one."""
        return Ragged.of(self._whole(texts))

    def within(self, whole: Ragged) -> Ragged:
        """Of ids of texts, none cut, those that a network reads. Raises `BadData` if any is too long and none may be cut."""
        self._check(whole)
        return whole.cut(self.length)

    def cut(self, texts: Sequence[str]) -> int:
        """How many of the texts are truncated. Raises as `encoded`."""
        return self._check(self.ids(texts))

    def _check(self, whole: Ragged) -> int:
        found = int((whole.counts > self.length).sum())
        if found and not self.truncate:
            raise TooLong.of({"": whole.counts.tolist()}, self.length).error()
        return found

    def like(self, other: Vocabulary) -> Vocabulary:
        """The same for texts that may be truncated where those of `other` may."""
        return self if self.truncate == other.truncate else replace(self, truncate=other.truncate)

    def whole(self, text: str) -> npt.NDArray[np.int64]:
        """The ids of one text, not cut and without tokens that only mark its ends. Raises as `encoded`."""
        return np.array(self._whole([text], special=False)[0], np.int64)

    def strange(self, text: str) -> str | None:
        """The characters of a text that it does not know, as a message names them; None if it knows all. Raises as `encoded`."""
        if self.unknown is None or self.unknown not in self.whole(text):
            return None
        found = sorted({one for one in text if self.unknown in self.whole(one)})
        return ", ".join(repr(printable(one)) for one in found) or "words"

    def read(self, ids: Sequence[int]) -> str:
        """The text that ids stand for."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def _whole(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        try:
            found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=special)
        except BadArtefact:
            raise
        except Exception as error:  # the library raises bare exceptions
            raise BadArtefact(
                f"the tokenizer cannot write these texts ({printable(reason(error), 300)}); it may lack a token for unknown "
                "words: choose another with --tokenizer"
            ) from error
        return [one.ids for one in found]


def vocabulary_of(
    texts: Sequence[str],
    kind: str = BPE,
    length: int | None = None,
    *,
    prose: bool = False,
    others: Sequence[str] = (),
    truncate: bool = False,
) -> Vocabulary:
    """A vocabulary for `texts`: trained on them, `bpe` or `words`, or read from the file or folder `kind`.

    Without a `length` it is that of the longest of them, and of `others`, which it is not trained on, unless these may be
    truncated; it is a multiple of 8, and at most `MOST_TOKENS`. That of `prose`, `bpe`, `characters` or `bytes`, gives a text
    back as it was written; it needs a `length`, which is the usual one too.

    Raises:
        BadArtefact: there is no such file, or it is no tokenizer.
        BadData: the texts have no tokens.
    """
    if prose and length is not None:
        known = kind in (BPE, CHARACTERS, BYTES)
        text = _faithful(texts, kind) if known else _read(Path(kind), prose=True)
        return Vocabulary(text, length, length, truncate)
    return written([texts, others], kind, length, truncate=truncate)[0]


def written(
    parts: Sequence[Sequence[str]], kind: str, length: int | None = None, *, truncate: bool = False
) -> tuple[Vocabulary, list[Ragged]]:
    """The vocabulary of texts, those to train on and then others (`vocabulary_of`), and the ids of each part, none cut.

    Every text is written once, as that is what takes the time. Raises as `vocabulary_of`.
    """
    text = _trained(parts[0], kind) if kind in (BPE, WORDS) else _read(Path(kind))
    whole = Vocabulary(text, LONGEST, LONGEST)
    ids = [whole.ids(part) for part in parts]
    counts = ids[0].counts
    if not counts.any():
        raise BadData("no text of the training split has a token of the tokenizer; choose another with --tokenizer")
    if length is None:
        most = max(int(part.counts.max(initial=0)) for part in ids[: 1 if truncate else None])
        length = min(MOST_TOKENS, aligned(most))
    usual = min(length, aligned(int(np.ceil(np.quantile(counts, USUAL)))))
    return Vocabulary(text, length, usual, truncate), ids


def _trained(texts: Sequence[str], kind: str) -> str:
    special = [PADDING, UNKNOWN]
    lower = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    if kind == WORDS:
        words = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        words.normalizer, words.pre_tokenizer = lower, pre_tokenizers.BertPreTokenizer()
        words.train_from_iterator(
            texts, trainers.WordLevelTrainer(min_frequency=RARE, special_tokens=special, show_progress=False)
        )
        return str(words.to_str())
    pieces = Tokenizer(models.BPE(unk_token=UNKNOWN))
    pieces.normalizer, pieces.pre_tokenizer = lower, pre_tokenizers.ByteLevel(add_prefix_space=True)
    pieces.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=SIZE,
            min_frequency=RARE,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return str(pieces.to_str())


def alphabet_of(text: str) -> frozenset[str]:
    """The characters of a text."""
    return frozenset(text)


def _faithful(texts: Sequence[str], kind: str) -> str:
    """A tokenizer that gives texts back: of the characters in them, of bytes, or of pieces of bytes."""
    if kind == CHARACTERS:
        entries = [UNKNOWN, *sorted(frozenset().union(*map(alphabet_of, texts)))]
        single = Tokenizer(models.BPE(vocab=_numbered(entries), merges=[], unk_token=UNKNOWN))
        single.decoder = decoders.Fuse()
        return str(single.to_str())
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = kind == BPE
    pieces = Tokenizer(models.BPE() if merged else models.BPE(vocab=_numbered(bytes_), merges=[]))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=merged)
    pieces.decoder = decoders.ByteLevel()
    if merged:
        pieces.train_from_iterator(
            texts,
            trainers.BpeTrainer(vocab_size=SIZE, min_frequency=RARE, initial_alphabet=bytes_, show_progress=False),
        )
    return str(pieces.to_str())


def _numbered(entries: Sequence[str]) -> dict[str, int]:
    return {entry: i for i, entry in enumerate(entries)}


def _read(place: Path, *, prose: bool = False) -> str:
    file = place / FILE if place.is_dir() else place
    if not file.exists():
        named = f"{CHARACTERS}, {BYTES}, {BPE}" if prose else f"{BPE}, {WORDS}"
        raise BadOption(f"there is no tokenizer at {place}; give {named}, a {FILE}, or a folder that has one")
    if file.stat().st_size > _MOST_BYTES:
        raise BadArtefact(f"{file} has more than {_MOST_BYTES >> 20} MB and is no tokenizer; expected a {FILE}")
    text = read_text(file, f"a {FILE} of the library tokenizers")
    found = Vocabulary(text, 1, 1)
    if found.size < 2:
        raise BadArtefact(
            f"{file} knows {found.size} tokens, with which texts cannot be told apart; give one with more"
        )
    return str(found.tokenizer.to_str())  # without the cutting and padding that were stored in it
