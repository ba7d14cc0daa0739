"""Vocabularies: what is trained, what is read, and the ids of texts as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from wb.core.errors import BadArtefact, BadData, BadOption
from wb.data.texts.vocabulary import BPE, MOST_TOKENS, WORDS, Ragged, Vocabulary, vocabulary_of

TEXTS = ["the card is late", "the late card is here", "is the card here", "a late card", "here is a card", "a card"] * 3
ODD = ["", "card  card", "CARD", "card\ncard", "Café", "Cafe\u0301", "a 😀 card", "12 cards", "xyzzy"]


@pytest.mark.parametrize("kind", [BPE, WORDS])
def test_a_vocabulary_is_the_same_in_every_training_and_after_json(kind: str) -> None:
    one, other = vocabulary_of(TEXTS, kind), vocabulary_of(TEXTS, kind)
    assert one.text == other.text
    again = Vocabulary(str(Tokenizer.from_str(one.text).to_str()), one.length, one.tokens)
    assert np.array_equal(again.encoded(ODD).ids, one.encoded(ODD).ids)
    assert one.encoded(ODD).ids.max() < one.size
    assert one.length % 8 == 0
    assert one.tokens <= one.length


def test_bytes_leave_no_text_unknown_and_the_case_does_not_matter() -> None:
    found = vocabulary_of(TEXTS, BPE)
    unknown = found.tokenizer.token_to_id("[UNK]")
    assert unknown not in found.encoded(ODD).ids
    assert found.encoded(["CARD"]).ids.tolist() == found.encoded(["card"]).ids.tolist()
    words = vocabulary_of(TEXTS, WORDS)
    assert words.encoded(["xyzzy"]).ids.tolist() == [words.tokenizer.token_to_id("[UNK]")]


def test_longer_texts_are_refused_or_truncated_and_counted() -> None:
    long = ["the late card", "card"]
    refused, found = (vocabulary_of(TEXTS, WORDS, length=2, truncate=one) for one in (False, True))
    assert found.encoded(long).counts.tolist() == [2, 1]
    assert found.cut(long) == 1
    for reads in (refused.encoded, refused.cut, found.like(refused).cut):
        with pytest.raises(
            BadData, match=r"^1 of 2 texts are longer than the 2 tokens .*, the longest has 3; give --truncate"
        ):
            reads(long)
    assert refused.cut(["card"]) == 0


def test_the_length_is_that_of_all_texts_that_are_read_unless_they_are_truncated() -> None:
    others = ["card " * 20]
    found = vocabulary_of(TEXTS, WORDS, others=others)
    assert (found.length, found.cut(others)) == (24, 0)
    assert found.tokens == vocabulary_of(TEXTS, WORDS).tokens == vocabulary_of(TEXTS, WORDS).length
    assert vocabulary_of(TEXTS, WORDS, others=others, truncate=True).length == vocabulary_of(TEXTS, WORDS).length
    assert vocabulary_of(TEXTS, WORDS, others=["card " * 999]).length == MOST_TOKENS


def test_a_given_tokenizer_neither_cuts_nor_pads_by_itself(tmp_path: Path) -> None:
    own = Tokenizer.from_str(vocabulary_of(TEXTS, WORDS).text)
    own.enable_truncation(1)
    own.enable_padding(length=9)
    own.save(str(tmp_path / "tokenizer.json"))
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        assert vocabulary_of(TEXTS, str(place)).encoded(["the late card"]).counts.tolist() == [3]


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=r"no tokenizer at .*; give bpe, words, a tokenizer\.json"):
        vocabulary_of(TEXTS, str(tmp_path / "none"))
    (tmp_path / "tokenizer.json").write_text('{"model": 3}')
    with pytest.raises(BadArtefact, match="a tokenizer cannot be read"):
        vocabulary_of(TEXTS, str(tmp_path))


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_rows_come_back_from_an_array_of_rows(rows: Sequence[Sequence[int]], random: Random) -> None:
    ragged = Ragged.of(rows)
    index = np.array([random.randrange(len(rows)) for _ in range(4)])
    table = ragged.take(index).padded(-1)
    assert [[one for one in row if one >= 0] for row in table.tolist()] == [list(rows[i]) for i in index]
    assert table.shape[1] == max(1, *(len(rows[i]) for i in index))
    both, short = ragged.joined(ragged.take(index)), random.randrange(4)
    expected = [*rows, *(rows[i] for i in index)]
    for one, length in ((both, 9), (both.cut(short), short), (both.cut(9), 9)):
        assert [one.ids_of(i) for i in range(len(expected))] == [list(row[:length]) for row in expected]
    assert both.cut(9) is both
